"""Networks of texts, of several inputs, and in other precisions: inputs arrive as ``forward`` takes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.analysis import analyze
from pursuhint.data import Batch, InputData, make_loader
from pursuhint.data.fingerprint import fingerprint_data
from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features import FeatureExtractor, find_hint_points, get_pooling
from pursuhint.features.head import find_last_map
from pursuhint.hints import HintPlan
from pursuhint.models.evaluation import evaluate
from tests.helpers.analysis_networks import Block, noise_images, plain_network


class TextNetwork(nn.Module):
    """Token ids to logits; padding is left out of the mean."""

    def __init__(self, width: int = 6, blocks: int = 3) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.embed = nn.Embedding(20, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        assert not input_ids.is_floating_point()
        tokens = self.embed(input_ids)
        for block in self.blocks:
            tokens = block(tokens)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mean = (tokens * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return {"hidden_states": tokens, "logits": self.head(mean)}


def _texts(samples: int = 60) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 20, (samples, 7), generator=generator)
    lengths = torch.randint(2, 8, (samples,), generator=generator)
    mask = (torch.arange(7) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def _data(inputs: Any, samples: int = 60) -> InputData:
    return InputData.from_tensors("texts", train=(inputs, torch.arange(samples) % 2))


def _cka(network: nn.Module, data: Any) -> Tensor:
    return analyze(network, data, k=2, device="cpu", stability=False).similarities["cka"].values


def test_an_analysis_of_a_text_network_leaves_padding_out() -> None:
    texts, network = _texts(), TextNetwork()
    found = analyze(network, _data(texts), k=2, batch_size=16, device="cpu", stability=False)
    assert [layer.module for layer in found.layers.points] == ["blocks.0", "blocks.1", "blocks.2"]
    values = found.similarities["cka"].values
    # The same network where what is behind a text is other tokens: padding decides nothing.
    other = dict(texts, input_ids=texts["input_ids"] + 5 * (1 - texts["attention_mask"]))
    assert torch.allclose(values, _cka(network, _data(other)), atol=1e-10)
    unmasked = _data({"input_ids": texts["input_ids"]})
    assert not torch.allclose(values, _cka(network, unmasked), atol=1e-4)


@pytest.mark.parametrize("kind", ["mapping", "tuple", "tensor"])
def test_features_are_those_of_the_network_itself(kind: str) -> None:
    texts, network = _texts(5), TextNetwork()
    batches: dict[str, Any] = {
        "mapping": texts,
        "tuple": tuple(texts.values()),
        "tensor": texts["input_ids"],
    }
    batch = batches[kind]
    points = find_hint_points(network, batch)
    features = FeatureExtractor(network, points, embedding=True)(batch)
    mask = None if kind == "tensor" else texts["attention_mask"]
    output = network(texts["input_ids"], mask)
    assert features.logits is not None
    assert torch.equal(features.logits, output["logits"])
    assert torch.equal(features.maps[-1], output["hidden_states"])


@pytest.mark.parametrize("of_bool", [False, True])
def test_a_mean_over_real_tokens_equals_the_mean_of_each_text_by_itself(of_bool: bool) -> None:
    features, mask = torch.randn(5, 7, 3), _texts(5)["attention_mask"]
    garbage = features.masked_fill(mask[:, :, None] == 0, float("inf"))
    pooled = get_pooling("mean")(garbage, mask.bool() if of_bool else mask)
    largest = get_pooling("max")(garbage, mask.bool() if of_bool else mask)
    for row, text, real in zip(pooled, features, mask.bool(), strict=True):
        assert torch.allclose(row, text[real].mean(0), atol=1e-6)
    for row, text, real in zip(largest, features, mask.bool(), strict=True):
        assert torch.equal(row, text[real].amax(0))
    assert torch.equal(get_pooling("class-token")(features, mask), features[:, 0])
    with pytest.raises(PursuhintError, match="padding"):
        get_pooling("class-token")(features, mask.flip(1))
    assert torch.equal(get_pooling("mean")(features), features.mean(1))


def test_a_text_student_learns_from_a_text_teacher() -> None:
    texts, student, teacher = _texts(8), TextNetwork(4), TextNetwork(6)
    plan = HintPlan.stage_centers(find_hint_points(teacher, texts))
    plan = plan.with_student(find_hint_points(student, texts), student)
    task: dict[str, Any] = {"num_classes": 2, "num_samples": 8, "example": texts}
    losses = {"kd": None, "fitnet": None, "rkd": None}
    distiller = Distiller.build(student, teacher, losses=losses, plan=plan, **task)
    batch = Batch(texts, torch.arange(8) % 2, torch.arange(8))
    first = distiller(batch)
    first.total.backward()
    assert torch.allclose(first.logits, student(**texts)["logits"])
    assert student.embed.weight.grad is not None
    assert find_last_map(student, texts).module == "head"


def test_a_text_network_is_evaluated() -> None:
    texts, network = _texts(), TextNetwork()
    loader = make_loader(_data(texts), "test", batch_size=7, training=False)
    logits, labels = network(**texts)["logits"], torch.arange(60) % 2
    result = evaluate(network, loader)
    assert result.count == 60
    assert result.loss == pytest.approx(F.cross_entropy(logits.double(), labels).item(), rel=1e-6)


def test_a_loss_that_needs_gradients_of_the_input_says_so() -> None:
    texts, student, teacher = _texts(8), TextNetwork(4), TextNetwork(6)
    task: dict[str, Any] = {"num_classes": 2, "num_samples": 8, "example": texts}
    distiller = Distiller.build(student, teacher, losses={"jacobian": None}, **task)
    with pytest.raises(PursuhintError, match=r"jacobian.*floating-point"):
        distiller(Batch(texts, torch.arange(8) % 2, torch.arange(8)))


def test_other_data_have_a_fingerprint_of_their_own() -> None:
    texts = _texts()
    changed = dict(texts, input_ids=texts["input_ids"].roll(1, 0))
    assert fingerprint_data(_data(texts)) == fingerprint_data(_data(_texts()))
    assert fingerprint_data(_data(texts)) != fingerprint_data(_data(changed))


def test_tensors_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(PursuhintError, match="3 and 4 entries"):
        InputData.from_tensors("x", train=((torch.ones(3), torch.ones(4)), [0, 1, 0]))
    with pytest.raises(PursuhintError, match="one whole number per sample"):
        InputData.from_tensors("x", train=(torch.ones(3), [0, 1]))
    with pytest.raises(PursuhintError, match="from 0 to 1"):
        InputData.from_tensors("x", train=(torch.ones(3), [0, 1, 2]), class_names=["a", "b"])


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16, torch.float16])
def test_images_take_the_precision_of_each_network(precision: torch.dtype) -> None:
    data, teacher, student = noise_images(60), plain_network().to(precision).eval(), plain_network()
    images = next(iter(make_loader(data, "train", batch_size=8, training=False).epoch(0)))
    points = find_hint_points(teacher, images.images)
    assert FeatureExtractor(teacher, points)(images.images).maps[0].dtype == precision
    tolerance = 1e-6 if precision == torch.float64 else 0.05
    assert torch.allclose(_cka(plain_network(), data), _cka(teacher, data), atol=tolerance)
    plan = HintPlan.conventional(teacher, points)
    plan = plan.with_student(find_hint_points(student, images.images), student)
    task: dict[str, Any] = {"num_classes": 2, "num_samples": 60, "example": images.images}
    losses = {"kd": None, "fitnet": None, "sp": None, "rkd": None}
    distiller = Distiller.build(student, teacher, losses=losses, plan=plan, **task)
    distiller(images).total.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert evaluate(teacher, make_loader(data, "test", batch_size=3, training=False)).count == 6


def test_a_student_in_double_learns_from_a_teacher_in_single_precision() -> None:
    data, teacher, student = noise_images(20), plain_network(), plain_network().double()
    batch = next(iter(make_loader(data, "train", batch_size=8, training=False).epoch(0)))
    plan = HintPlan.conventional(teacher, find_hint_points(teacher, batch.images))
    plan = plan.with_student(find_hint_points(student, batch.images), student)
    task: dict[str, Any] = {"num_classes": 2, "num_samples": 20, "example": batch.images}
    losses = {"kd": None, "fitnet": None, "sp": None, "at": None}
    distiller = Distiller.build(student, teacher, losses=losses, plan=plan, **task)
    distiller(batch).total.backward()
    gradients = [parameter.grad for parameter in student.parameters()]
    assert all(gradient is not None and gradient.dtype == torch.float64 for gradient in gradients)
