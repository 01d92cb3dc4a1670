"""Factor transfer: a paraphraser first, then a translator."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.context import FeatureShape, LossContext
from pursuhint.losses.ft import FactorTransferLoss, _SteadyBatchNorm


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(**options) -> FactorTransferLoss:
    torch.manual_seed(0)
    return FactorTransferLoss(3, 5, **options).double()


def encoded(network, features, norm):
    """Three 3x3 convolutions with batch statistics and leaky ReLUs, by hand."""
    for index in range(3):
        conv = network.get_submodule(f"conv{index}")
        features = F.conv2d(features, conv.weight, conv.bias, padding=1)
        if norm:
            variance, mean = torch.var_mean(features, (0, 2, 3), correction=0, keepdim=True)
            features = (features - mean) / (variance + 1e-5).sqrt()
        features = torch.where(features > 0, features, 0.1 * features)
    return features


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, lambda d: d.abs().mean()),
        ({"power": 3, "difference_power": 2}, lambda d: d.square().mean()),
        ({"power": 1, "difference_power": 3}, lambda d: (d**3).mean()),
        ({"power": 1, "difference_power": 3, "absolute": True}, lambda d: d.abs().pow(3).mean()),
    ],
)
@pytest.mark.parametrize("norm", [True, False])
def test_equals_the_formula(options, expected, norm):
    loss = make(translator_norm=norm, factor_ratio=0.9, **options)
    student, teacher = draw(4, 3, 3, 6), draw(4, 5, 3, 6, seed=1)
    maps = []
    activations = (loss.translator, student, norm), (loss.paraphraser.encoder, teacher, False)
    for network, features, normalized in activations:
        factors = encoded(network, features, normalized)
        assert factors.shape[1] == 4
        flat = factors.pow(options.get("power", 2)).mean(1).flatten(1)
        maps.append(flat / flat.square().sum(1, keepdim=True).sqrt())
    torch.testing.assert_close(loss(student, teacher), expected(maps[0] - maps[1]))


def test_whole_factors_can_be_compared():
    loss = make(collapse_channels=False)
    student, teacher = draw(4, 3, 3, 3), draw(4, 5, 3, 3, seed=1)
    own, other = loss.translator(student).flatten(1), loss.paraphraser.encoder(teacher).flatten(1)
    own, other = (f / f.norm(dim=1, keepdim=True) for f in (own, other))
    torch.testing.assert_close(loss(student, teacher), (own - other).abs().mean())


def test_the_paraphraser_learns_to_reconstruct_the_teacher():
    loss = make(factor_ratio=2.0)
    (stage,) = loss.stages()
    assert (stage.epochs, stage.trains_student, stage.lr) == (30, False, 0.01)
    loss.begin_stage(stage.name)
    student, teacher = draw(4, 3, 3, 3).requires_grad_(), draw(4, 5, 3, 3, seed=1)
    torch.testing.assert_close(loss(student, teacher), (loss.paraphraser(teacher) - teacher).square().mean())
    optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=0.01)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(student, teacher)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.6 * values[0]
    assert student.grad is None


def test_each_network_trains_in_its_stage_alone():
    loss = make(paraphraser_norm=True)

    def trained():
        networks = {"paraphraser": loss.paraphraser, "translator": loss.translator}
        return {name for name, net in networks.items() if all(p.requires_grad for p in net.parameters())}

    assert trained() == {"translator"}
    assert not loss.train().paraphraser.training
    assert loss.translator.training
    loss.begin_stage("paraphraser")
    assert trained() == {"paraphraser"}
    assert loss.paraphraser.training
    loss.begin_stage(None)
    assert trained() == {"translator"}
    assert not loss.paraphraser.training
    before = loss.paraphraser.encoder.bn0.running_mean.clone()
    loss(draw(4, 3, 3, 3), draw(4, 5, 3, 3)).backward()
    assert torch.equal(loss.paraphraser.encoder.bn0.running_mean, before)
    assert all(p.grad is None for p in loss.paraphraser.parameters())


def test_every_pair_has_networks_of_its_own():
    maps, tokens = (
        (FeatureShape(3, (4, 4)), FeatureShape(5, (2, 6))),
        (FeatureShape(2, (9,)), FeatureShape(8, (9,))),
    )
    loss = FactorTransferLoss.build(LossContext((maps, tokens), 10, 50, 0, 0))
    assert len(loss.stages()) == 1
    students = [torch.randn(2, 3, 4, 4), torch.randn(2, 9, 2)]
    teachers = [torch.randn(2, 5, 2, 6), torch.randn(2, 9, 8)]
    for stage in ("paraphraser", None):
        loss.begin_stage(stage)
        assert loss(students, teachers).isfinite()


def test_dead_factors_stay_finite():
    loss = make(power=1, translator_norm=False)
    for parameter in loss.parameters():
        torch.nn.init.zeros_(parameter)
    student = draw(2, 3, 3, 3).requires_grad_()
    value = loss(student, draw(2, 5, 3, 3))
    value.backward()
    assert value == 0
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("features", [torch.zeros, torch.ones])
def test_a_student_with_dead_units_gets_no_exploding_gradient(samples, features):
    """Three batch norms in a row multiplied the rounding errors of equal values to gradients of 1e9."""
    for seed in range(40):
        torch.manual_seed(seed)
        loss = FactorTransferLoss(4, 8)
        student = features(samples, 4, 2, 2).requires_grad_()
        loss(student, torch.randn(samples, 8, 2, 2)).backward()
        gradients = [tensor.grad for tensor in (student, *loss.parameters()) if tensor.grad is not None]
        assert max(float(gradient.abs().max()) for gradient in gradients) < 1e3


def test_batch_norm_of_equal_values_is_its_shift_and_otherwise_torchs():
    norms = _SteadyBatchNorm(3), torch.nn.BatchNorm2d(3)
    with torch.no_grad():
        for norm in norms:
            norm.bias.copy_(torch.tensor([0.5, -1.0, 2.0]))
    equal = torch.full((7, 3, 5, 5), 0.1)
    assert torch.equal(norms[0](equal), norms[0].bias[:, None, None].expand_as(equal))
    norms[1](equal)
    features = torch.randn(4, 3, 5, 5) + 3
    torch.testing.assert_close(norms[0](features), norms[1](features))
    torch.testing.assert_close(norms[0].running_mean, norms[1].running_mean)
    torch.testing.assert_close(norms[0].eval()(features), norms[1].eval()(features))


def test_at_least_one_factor():
    assert make(factor_ratio=0.1).translator.conv2.out_channels == 1


def test_refuses_what_is_out_of_range():
    for name in ("factor_ratio", "power", "difference_power", "warm_up_epochs", "warm_up_lr"):
        with pytest.raises(PursuhintError, match=f"{name} must be positive, got 0"):
            make(**{name: 0})
    with pytest.raises(PursuhintError, match="batch of one sample with a 1x1 feature map"):
        make()(draw(1, 3, 1, 1), draw(1, 5, 1, 1))
