"""Networks of transformers as teachers and students, by name and as objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from pursuhint.cli.main import main
from torch import Tensor, nn

import pursuhint
from pursuhint.data import ImageData, InputData
from pursuhint.data.from_python import as_data
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.models import create_model, fetch_weights
from pursuhint.models.normalization import expected_normalization
from pursuhint.training import Recipe, train

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
IMAGE: dict[str, Any] = {"image_size": 16, "patch_size": 4}
WIDE = {**SIZES, "intermediate_size": 32}
TEXT = {"vocab_size": 40, **WIDE}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "patch_size": 2}

VISION: dict[str, tuple[str, dict[str, Any], int]] = {
    "ViTForImageClassification": ("ViTConfig", {**WIDE, **IMAGE, "num_labels": 10}, 3),
    "Dinov2Model": ("Dinov2Config", {**SIZES, **IMAGE, "mlp_ratio": 2}, 3),
    "SwinForImageClassification": (
        "SwinConfig",
        {
            "image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2],
            "window_size": 4, "num_labels": 10,
        },
        3,
    ),
    "ConvNextForImageClassification": ("ConvNextConfig", {**STAGES, "num_labels": 10}, 5),
    "CLIPVisionModel": ("CLIPVisionConfig", {**WIDE, **IMAGE}, 3),
}  # fmt: skip
"""Class: its configuration, and how many blocks that has."""

LANGUAGE: dict[str, tuple[str, dict[str, Any], int]] = {
    "BertForSequenceClassification": ("BertConfig", {**TEXT, "num_labels": 4}, 3),
    "BertModel": ("BertConfig", TEXT, 3),
    "LlamaModel": ("LlamaConfig", {**TEXT, "bos_token_id": 1, "eos_token_id": 2}, 3),
}


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PURSUHINT_WEIGHTS", str(tmp_path_factory.mktemp("weights")))


def build(kind: str, table: dict[str, tuple[str, dict[str, Any], int]]) -> nn.Module:
    torch.manual_seed(0)
    config, options, _ = table[kind]
    network: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**options))
    return network


def recipe(**more: Any) -> Recipe:
    """A short run; its student is passed."""
    return Recipe.from_dict({"student": "resnet8", "epochs": 1, "batch_size": 24, **more})


@pytest.fixture(scope="module")
def images() -> ImageData:
    digits = pursuhint.load_dataset("digits", image_size=16, channels=3)

    def first(split: Any, count: int) -> tuple[Tensor, Tensor]:
        return split.images[:count].float() / 255, split.labels[:count]

    parts = first(digits.train, 48), first(digits.test, 32)
    found = as_data(parts, normalization={"mean": [0] * 3, "std": [1] * 3}, class_names=digits.class_names)
    assert isinstance(found, ImageData)
    return found


@pytest.fixture(scope="module")
def words() -> InputData:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 40, (48, 10), generator=generator)
    mask = torch.ones_like(ids)
    ids[::2, 6:] = mask[::2, 6:] = 0
    samples = {"input_ids": ids, "attention_mask": mask}
    return InputData.from_tensors(
        "words", train=(samples, torch.arange(48) % 4), test=(samples, torch.arange(48) % 4)
    )


@pytest.mark.filterwarnings("ignore::pursuhint.errors.PursuhintWarning")
@pytest.mark.parametrize("kind", VISION)
def test_networks_of_images_are_analyzed_and_teach(kind: str, images: ImageData, tmp_path: Path) -> None:
    """Blocks are those of the configuration; a loss with connectors reaches every student."""
    teacher = build(kind, VISION)
    blocks = len(find_hint_points(teacher, images.example()))
    assert blocks == VISION[kind][2]
    analysis = pursuhint.analyze(teacher, images, samples=40, k=2, stability=False)
    assert len(analysis.plan.pairs) == 2
    for student in ("ViTForImageClassification", "ConvNextForImageClassification"):
        for loss in ("at", "fitnet", "crd"):
            record = train(
                recipe(losses={loss: None}),
                tmp_path / f"{student}-{loss}", data=images, teacher=teacher, student=build(student, VISION),
                plan=None if loss == "crd" else analysis.plan, progress=False,
            )  # fmt: skip
            assert record.finished


@pytest.mark.parametrize("kind", ["Dinov2Model", "CLIPVisionModel"])
def test_losses_of_logits_say_that_a_teacher_has_no_classifier(
    kind: str, images: ImageData, tmp_path: Path
) -> None:
    for loss in ("kd", "srrl"):
        with pytest.raises(PursuhintError, match=f"{kind} has no classifier"):
            train(
                recipe(losses={loss: None}), tmp_path / "run",
                data=images, teacher=build(kind, VISION), progress=False,
            )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_control_a_teacher_with_a_classifier_of_other_classes(images: ImageData, tmp_path: Path) -> None:
    config = transformers.ViTConfig(**WIDE, **IMAGE, num_labels=7)
    with pytest.raises(PursuhintError, match="7 classes"):
        train(
            recipe(losses={"kd": None}), tmp_path / "run",
            data=images, teacher=transformers.ViTForImageClassification(config), progress=False,
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore::pursuhint.errors.PursuhintWarning")
def test_padding_does_not_count_in_analyses_of_text(words: InputData) -> None:
    """Other numbers in the place of padding change nothing, in encoders and decoders."""
    padding = words.train.inputs["attention_mask"] == 0  # type: ignore[call-overload, index]
    ids = words.train.inputs["input_ids"].masked_fill(padding, 39)  # type: ignore[call-overload, index]
    other = InputData.from_tensors(
        "words", train=({**words.train.inputs, "input_ids": ids}, words.train.labels)  # type: ignore[dict-item]
    )  # fmt: skip
    for kind, (_, _, blocks) in LANGUAGE.items():
        network = build(kind, LANGUAGE).eval()
        found = [
            pursuhint.analyze(network, data, samples=40, k=2, stability=False) for data in (words, other)
        ]
        first, second = (analysis.similarities["cka"].values for analysis in found)
        assert first.shape == (blocks, blocks)
        torch.testing.assert_close(torch.as_tensor(first), torch.as_tensor(second), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::pursuhint.errors.PursuhintWarning")
@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "BertModel"])
def test_networks_of_text_teach(kind: str, words: InputData, tmp_path: Path) -> None:
    sizes = {**TEXT, "hidden_size": 8, "num_hidden_layers": 2, "num_labels": 4}
    hints = {"strategy": "chosen", "k": 2, "samples": 40}
    losses = ["at", "fitnet"] if kind == "BertModel" else ["at", "fitnet", "kd"]
    record = train(
        recipe(losses=dict.fromkeys(losses), hints=hints),
        tmp_path / "run", data=words, teacher=build(kind, LANGUAGE),
        student=transformers.BertForSequenceClassification(transformers.BertConfig(**sizes)), progress=False,
    )  # fmt: skip
    assert record.plan is not None
    assert len(record.plan.pairs) == 2


# ---------------------------------------------------------------------------------------------------------
# By name


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of ``save_pretrained``: a network of features with its image processor, and a classifier."""
    folder = tmp_path_factory.mktemp("saved")
    build("Dinov2Model", VISION).save_pretrained(folder / "dino")
    transformers.BitImageProcessor(image_mean=[0.4] * 3, image_std=[0.2] * 3).save_pretrained(folder / "dino")
    build("ViTForImageClassification", VISION).save_pretrained(folder / "vit")
    both = transformers.CLIPConfig(
        vision_config={**WIDE, **IMAGE}, text_config={**TEXT, "bos_token_id": 0, "eos_token_id": 1}
    )
    transformers.CLIPModel(both).save_pretrained(folder / "clip")
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [("dino", "Dinov2Model"), ("vit", "ViTForImageClassification"), ("clip", "CLIPVisionModel")],
)
def test_saved_networks_come_back_with_their_weights(saved: Path, name: str, kind: str) -> None:
    label = f"hf:{saved / name}"
    network = create_model(label, num_classes=10)
    assert type(network).__name__ == kind
    loaded = pursuhint.load_weights(network, fetch_weights(label))
    assert not loaded.new
    original = transformers.AutoModel.from_pretrained(saved / name) if name == "clip" else build(kind, VISION)
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    inner = original.vision_model if name == "clip" else original
    with torch.no_grad():
        wanted, found = (each.eval()(pixel_values=pixels)[0] for each in (inner, network))
    torch.testing.assert_close(found, wanted)


def test_a_student_gets_a_classifier_and_the_rest_of_the_weights(saved: Path) -> None:
    label = f"hf:{saved / 'dino'}"
    student = create_model(label, num_classes=10, classifier=True)
    loaded = pursuhint.load_weights(student, fetch_weights(label, classifier=True), partial=True)
    assert set(loaded.new) == {"classifier.weight", "classifier.bias"}
    key = "dinov2.embeddings.cls_token"
    assert torch.equal(student.state_dict()[key], build("Dinov2Model", VISION).state_dict()[key[7:]])


def test_the_image_processor_says_mean_and_deviation(saved: Path) -> None:
    found = expected_normalization(create_model(f"hf:{saved / 'dino'}", num_classes=10))
    assert found is not None
    assert (found.mean, found.std) == ((0.4,) * 3, (0.2,) * 3)
    assert expected_normalization(create_model(f"hf:{saved / 'vit'}", num_classes=10)) is None


def test_types_are_built_from_options() -> None:
    network = create_model("hf:vit", num_classes=7, in_channels=1, **WIDE, **IMAGE)
    assert network(torch.zeros(2, 1, 16, 16)).logits.shape == (2, 7)
    bert = create_model("hf:bert", num_classes=3, vocab_size=11, **WIDE)
    assert bert(torch.full((2, 5), 10)).logits.shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hf:vitt", {}, "did you mean 'vit'"),
        ("hf:someone/net", {}, "save_pretrained"),
        ("hf:vit", {"hiden_size": 8}, "'hidden_size'"),
        ("hf:vit", {"vocab_size": 8}, "takes no text"),
        ("hf:llama", {"classifier": True, "hidden_size": 7}, "cannot be built"),
        ("torchvision:resnet18", {"vocab_size": 8}, "takes images"),
        ("resnet8", {"vocab_size": 8}, "takes images"),
    ],
    ids=["type", "hub", "option", "images", "sizes", "torchvision", "own"],
)
def test_wrong_names_and_options_are_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PursuhintError, match=message) as raised:
        create_model(name, num_classes=3, **options)
    assert "\n" not in str(raised.value)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> Result:
        return CliRunner().invoke(main, [*map(str, words)])

    return run


@pytest.mark.filterwarnings("ignore::pursuhint.errors.PursuhintWarning")
def test_commands_take_a_folder_of_save_pretrained(saved: Path, call: Any, tmp_path: Path) -> None:
    images = ("--data", "digits", "--image-size", "16", "--image-channels", "3")
    teacher = ("--teacher", f"hf:{saved / 'dino'}", "--pretrained")
    trained = call(
        "train", *teacher, "--student", f"hf:{saved / 'dino'}", "--student-pretrained", *images,
        "--loss", "at", "--hints", "chosen", "--set", "hints.k=2", "--set", "hints.samples=50",
        "--train-samples", "50", "--epochs", "1", "--no-report", "--out", "run",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.exception
    record = pursuhint.RunRecord.load(tmp_path / "run")
    assert record.recipe.student.options == {"classifier": True}
    assert record.environment["data"]["preprocessing"]["mean"] == [0.4] * 3
    student = record.load_student()
    assert type(student).__name__ == "Dinov2ForImageClassification"
    assert record.plan is not None
    assert [pair.teacher.module.startswith("encoder.layer.") for pair in record.plan.pairs] == [True] * 2
