"""Images are normalised for the student, and converted for a teacher that expects others."""

import pytest
import torch

from pursuhint.data import load_dataset, make_loader
from pursuhint.data.preprocessing import IMAGENET, Normalization
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.models.normalization import convert_images, expected_normalization
from pursuhint.training import Recipe, RunRecord, RunStarted, evaluate, train
from pursuhint.training.normalization import converted_for, normalized_for
from pursuhint.training.prepare_training import prepare
from pursuhint.training.recipe.resolve import resolve_recipe

HALF = Normalization((0.5,), (0.5,), "half")


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    network = create_model("resnet8", num_classes=10, in_channels=1).eval()
    network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    return network


def test_a_converted_network_gives_the_logits_of_its_own_images(teacher):
    data = load_dataset("digits")
    loaders = [
        make_loader(images, "test", batch_size=100, training=False)
        for images in (data, data.normalized_with(HALF))
    ]
    alone = evaluate(teacher, loaders[1])
    unconverted = evaluate(teacher, loaders[0])
    converted = evaluate(
        converted_for(teacher, "", data, Recipe.from_dict({"student": "resnet8"}).data), loaders[0]
    )
    assert converted.top1 == alone.top1
    assert converted.loss == pytest.approx(alone.loss, rel=1e-5)
    assert unconverted.loss != pytest.approx(alone.loss, rel=1e-3)  # the control: it makes a difference


def test_the_gradient_is_by_the_images_of_the_student(teacher):
    given = Normalization((0.3,), (0.2,), "given")
    raw = torch.rand(2, 1, 8, 8)
    images = ((raw - 0.3) / 0.2).requires_grad_()
    own = ((raw - 0.5) / 0.5).requires_grad_()
    (expected,) = torch.autograd.grad(teacher(own).sum(), own)
    (found,) = torch.autograd.grad(convert_images(teacher, given, HALF)(images).sum(), images)
    torch.testing.assert_close(found, expected * 0.2 / 0.5, rtol=1e-3, atol=1e-5)


def recipe(**data):
    values = {"student": "resnet8", "data": {"name": "digits", **data}, "epochs": 1, "losses": {"ce": 1}}
    return resolve_recipe(Recipe.from_dict(values))


@pytest.mark.parametrize(
    ("choice", "mean"),
    [("imagenet", sum(IMAGENET.mean) / 3), ({"mean": [0.25], "std": [0.75]}, 0.25)],
)
def test_the_recipe_decides(choice, mean, tmp_path):
    parts = prepare(recipe(normalize=choice))
    assert parts.data.mean == pytest.approx((mean,))
    own = load_dataset("digits").mean
    assert prepare(recipe()).data.mean == prepare(recipe(normalize="data")).data.mean == own
    assert own != parts.data.mean


def test_a_run_keeps_its_normalisation(tmp_path):
    events = []
    run = train(recipe(normalize="imagenet"), tmp_path / "run", on_event=events.append)
    data = RunRecord.load(run.path).load_data()
    assert data.preprocessing.to_dict() == run.environment["data"]["preprocessing"]
    (started,) = (event for event in events if isinstance(event, RunStarted))
    assert started.images == data.preprocessing.line()
    loader = make_loader(data, "test", batch_size=256, training=False)
    assert evaluate(run.load_student(), loader).top1 == pytest.approx(run.last["test_top1"])


def test_model_needs_a_network_that_says_what_it_expects(teacher):
    data = load_dataset("digits")
    config = recipe(normalize="model").data
    assert normalized_for(data, config, teacher, "own").mean == (0.5,)
    with pytest.raises(PursuhintError, match="does not say which images it expects"):
        prepare(recipe(normalize="model"))


def test_timm_and_torchvision_say_what_they_expect():
    vit = create_model("torchvision:resnet18", num_classes=3, in_channels=3)
    found = expected_normalization(vit, "torchvision:resnet18")
    assert found is not None
    assert found.mean == IMAGENET.mean
    pytest.importorskip("timm")
    mixer = create_model("timm:vit_tiny_patch16_224", num_classes=3, in_channels=3)
    found = expected_normalization(mixer, "timm:vit_tiny_patch16_224")
    assert found is not None
    assert found.mean == (0.5, 0.5, 0.5)
