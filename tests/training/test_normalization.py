"""Images are normalised for the student, and converted for a teacher that expects others."""

import copy
import json
import types

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pursuhint.data import load_dataset, make_loader
from pursuhint.data.preprocessing import IMAGENET, Normalization
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model, load_weights
from pursuhint.models.normalization import convert_images, converted_to, expected_normalization
from pursuhint.training import Recipe, RunRecord, RunStarted, evaluate, train
from pursuhint.training.inputs import Inputs
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


def test_data_from_python_are_converted_for_the_teacher_as_well(teacher, tmp_path):
    data = load_dataset("digits").normalized_with(IMAGENET)
    settings = {"student": "resnet8", "losses": {"kd": 1}, "epochs": 1}
    parts = prepare(
        resolve_recipe(Recipe.from_dict(settings), Inputs(teacher=teacher, data=data)),
        Inputs(teacher=teacher, data=data),
    )
    assert parts.data.mean == data.mean  # the student gets what the caller chose
    assert converted_to(parts.teacher).mean == (0.5,)
    raw = torch.rand(2, 1, 8, 8)
    given = (raw - data.mean[0]) / data.std[0]
    torch.testing.assert_close(parts.teacher.eval()(given), teacher((raw - 0.5) / 0.5), rtol=1e-4, atol=1e-4)
    # Constants of the recipe hold for data from Python, and for both networks.
    recipe_ = Recipe.from_dict({**settings, "data": {"normalize": {"mean": [0.25], "std": [0.75]}}})
    inputs = Inputs(teacher=teacher, data=data)
    parts = prepare(resolve_recipe(recipe_, inputs), inputs)
    assert parts.data.mean == (0.25,)
    assert converted_to(parts.teacher) is None


def test_a_second_conversion_replaces_the_first(teacher):
    given, other = Normalization((0.3,), (0.2,), "given"), Normalization((0.1,), (0.9,), "other")
    images = torch.rand(2, 1, 8, 8)
    expected = convert_images(copy.deepcopy(teacher), given, HALF)(images)
    twice = convert_images(convert_images(teacher, other, HALF), given, HALF)
    torch.testing.assert_close(twice(images), expected)


def test_what_is_converted_is_in_the_record_and_in_the_line(teacher, tmp_path):
    settings = {"student": "resnet8", "losses": {"kd": 1}, "epochs": 1, "data": "digits"}
    events = []
    run = train(Recipe.from_dict(settings), tmp_path / "run", teacher=teacher, on_event=events.append)
    (started,) = (event for event in events if isinstance(event, RunStarted))
    assert run.environment["data"]["teacher_normalization"]["mean"] == [0.5]
    assert "converted for the teacher to mean 0.5 and deviation 0.5" in started.images
    assert "--image-normalize data" in started.images
    # The control: constants that the user chose are used for both, and need no advice.
    chosen = {**settings, "data": {"name": "digits", "normalize": "data"}}
    run = train(Recipe.from_dict(chosen), tmp_path / "chosen", teacher=teacher, on_event=events.append)
    assert run.environment["data"]["teacher_normalization"] is None
    lines = [event.images for event in events if isinstance(event, RunStarted)]
    assert "--image-normalize" not in lines[-1]


def processor(**changes):
    values = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.1],
        "rescale_factor": 0.00392156862745098,
    }
    return {"do_rescale": True, "do_normalize": True, **values, **changes}


@pytest.mark.parametrize(
    "values",
    [
        processor(),
        processor(do_rescale=False, image_mean=[120, 110, 100], image_std=[50, 60, 70]),
        processor(rescale_factor=1 / 127.5, rescale_offset=True),
        processor(do_normalize=False),
    ],
)
@pytest.mark.parametrize("where", ["object", "file"])
def test_the_image_processor_of_transformers(values, where, tmp_path):
    network = nn.Linear(3, 3)
    if where == "object":
        network.image_processor = types.SimpleNamespace(**values)
    else:
        network.config = types.SimpleNamespace(_name_or_path=str(tmp_path))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    pixels = torch.randint(0, 256, (3, 5))
    rows = pixels.double()
    if values["do_rescale"]:
        rows = rows * values["rescale_factor"] - (1 if values.get("rescale_offset") else 0)
    if values["do_normalize"]:
        mean, std = (torch.tensor(values[key]).double()[:, None] for key in ("image_mean", "image_std"))
        rows = (rows - mean) / std
    found = expected_normalization(network)
    mean, std = (torch.tensor(part).double()[:, None] for part in (found.mean, found.std))
    torch.testing.assert_close((pixels / 255 - mean) / std, rows, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"image_mean": "x", "image_std": [1]}', '{"image_mean": [1], "image_std": [0]}'],
)
def test_a_damaged_image_processor_says_nothing(text, tmp_path):
    network = nn.Linear(3, 3)
    network.config = types.SimpleNamespace(_name_or_path=str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text(text)
    assert expected_normalization(network) is None


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


def test_the_file_of_the_weights_comes_before_what_the_network_declares(teacher, tmp_path):
    data = load_dataset("digits", train_samples=128)
    own = train(
        Recipe.from_dict({"student": "resnet8", "epochs": 1}),
        tmp_path / "teacher",
        data=data,
        student=teacher,
    )
    given = data.normalized_with(IMAGENET)
    config = recipe().data

    def loaded(path):
        load_weights(teacher, path)
        return expected_normalization(teacher)

    weights = own.path / "student.safetensors"
    assert loaded(weights).mean == data.mean
    assert converted_to(converted_for(teacher, "", data, config)) is None
    assert converted_to(converted_for(teacher, "", given, config)).mean == data.mean
    # A file that does not say, or says nonsense, leaves what the network declares.
    plain, damaged = tmp_path / "plain.safetensors", tmp_path / "damaged.safetensors"
    save_file(load_file(weights), plain)
    wrong = {"mean": ["x"], "std": [0], "value_range": [0, 1]}
    save_file(load_file(weights), damaged, metadata={"preprocessing": json.dumps(wrong)})
    for path in (plain, damaged):
        assert loaded(weights).mean == data.mean
        assert loaded(path).mean == (0.5, 0.5, 0.5)
