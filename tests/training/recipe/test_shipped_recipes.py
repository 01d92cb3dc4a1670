"""Every shipped recipe is listed, valid, fits its networks, and says what its paper says."""

from __future__ import annotations

import functools
import re
from importlib import resources

import click
import numpy as np
import pytest
import torch
from PIL import Image
from pursuhint.cli.main import main
from pursuhint.cli.recipe_options import build_recipe
from torch import nn

from pursuhint.data import ImageData
from pursuhint.errors import PursuhintError
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import LOSSES, get_loss
from pursuhint.models import create_model
from pursuhint.recipes import BASES, RECIPES, is_recipe, recipe_text
from pursuhint.study.method import Method
from pursuhint.training import Recipe, train
from pursuhint.training.inputs import Inputs
from pursuhint.training.prepare_training import build_distiller, prepare
from pursuhint.training.recipe.inheritance import read_recipe, variant_names
from pursuhint.training.recipe.resolve import resolve_recipe

SHIPPED = [name + variant for name in RECIPES for variant in ("", *(f":{v}" for v in variant_names(name)))]
CIFAR = [name for name in RECIPES if name.startswith("cifar100-")]
SIDE = 16  # of images in place of CIFAR's; half of 32, as all networks halve what they see
SMALL = ("MobileNetV2", "ShuffleV1", "ShuffleV2")
# Variants whose networks decide more than their names: equal channels, or points by stage of two families.
POINTS_BY_PAIR = ("cifar100-fitnet:", "cifar100-fsp:", "cifar100-kdsvd:", "cifar100-sp:")


def test_table_and_folder_agree():
    files = {file.name.removesuffix(".yaml") for file in resources.files("pursuhint.recipes").iterdir()}
    assert {name for name in files if not name.startswith("__")} == {*RECIPES, *BASES}


@pytest.mark.parametrize("name", [*RECIPES, *BASES])
def test_says_what_it_is_and_where_its_settings_are_from(name):
    text = recipe_text(name)
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 120
    assert is_recipe(name)
    assert name.startswith("_") == (name in BASES)
    assert ("not a recipe by itself" in " ".join(text.split())) == (name in BASES)


def test_all_are_valid_and_complete():
    assert len(SHIPPED) > 500
    for name in SHIPPED:
        recipe = resolve_recipe(Recipe.load(name))
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        assert resolve_recipe(recipe) == recipe
        if ":" not in name:  # the text of a variant has no other keys
            assert Recipe.from_yaml(recipe.dump()) == recipe
        assert all(milestone < recipe.epochs for milestone in recipe.schedule.milestones)


@pytest.mark.parametrize("name", RECIPES)
def test_states_its_schedule(name):
    values, _ = read_recipe(name)
    assert "kind" in values["schedule"]
    assert {"epochs", "batch_size", "optimizer"} <= set(values)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_has_a_recipe_for_cifar100(loss):
    recipe = Recipe.load("cifar100-vanilla" if loss == "ce" else f"cifar100-{loss}")
    assert loss in recipe.losses
    assert recipe.data.name == "cifar100"


@functools.cache
def network(name: str, classes: int, channels: int) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, num_classes=classes, in_channels=channels)


@functools.cache
def tiny_data(name: str) -> ImageData:
    """As many classes and channels as the real data, and two small black images of each class."""
    size, classes, channels = {"imagenet": (64, 1000, 3), "digits": (8, 10, 1)}.get(name, (SIDE, 100, 3))
    images = torch.zeros(2 * classes, channels, size, size, dtype=torch.uint8)
    labels = torch.arange(2 * classes) % classes
    return ImageData.from_tensors(
        "black",
        train=(images, labels),
        test=(images[:2], labels[:2]),
        num_classes=classes,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


@functools.cache
def built(name: str) -> tuple[Recipe, HintPlan | None, dict[str, float]]:
    """A recipe with a teacher, its hint points, and the weights of the losses that were built for them."""
    recipe = Recipe.load(name)
    assert recipe.teacher is not None
    if recipe.hints is not None and recipe.hints.strategy == "chosen":  # any choice of as many points
        recipe = recipe.override("hints=random")
    recipe = resolve_recipe(recipe)
    data = tiny_data(recipe.data.name)
    student, teacher = (
        network(config.network, data.num_classes, data.in_channels)
        for config in (recipe.student, recipe.teacher)
    )
    parts = prepare(recipe, Inputs(student, teacher, data))
    return recipe, parts.plan, build_distiller(recipe, parts, parts.plan).weights


@pytest.mark.parametrize(
    "name", [name for name in SHIPPED if ":" not in name or name.startswith(POINTS_BY_PAIR)]
)
def test_networks_hint_points_and_losses_fit_each_other(name):
    if Recipe.load(name).teacher is not None:
        recipe, _, weights = built(name)
        assert weights == {loss: config.weight for loss, config in recipe.losses.items()}


# The points that the benchmark's code takes: the end of a stage by family of networks.
ENDS = {
    "cifar100-sp": {"resnet32x4": "layer3.4", "wrn_40_2": "block3.layer.5", "resnet56": "layer3.8",
                    "resnet110": "layer3.17", "vgg13": "relu4", "ResNet50": "layer4.2"},
    "cifar100-fitnet": {"resnet32x4": "layer2.4", "wrn_40_2": "block2.layer.5", "resnet56": "layer2.8",
                        "resnet110": "layer2.17", "vgg13": "relu2", "ResNet50": "layer2.3"},
}  # fmt: skip
STUDENTS = {
    "cifar100-sp": {"resnet8x4": "layer3.0", "wrn_16_2": "block3.layer.1", "wrn_40_1": "block3.layer.5",
                    "resnet20": "layer3.2", "resnet32": "layer3.4", "vgg8": "relu4", "ShuffleV1": "layer3.3",
                    "MobileNetV2": "blocks.6.0", "ShuffleV2": "layer3.3"},
    "cifar100-fitnet": {"resnet8x4": "layer2.0", "wrn_16_2": "block2.layer.1", "wrn_40_1": "block2.layer.5",
                        "resnet20": "layer2.2", "resnet32": "layer2.4", "vgg8": "relu2",
                        "ShuffleV1": "layer2.7", "MobileNetV2": "blocks.2.2", "ShuffleV2": "layer2.7"},
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in SHIPPED if n.partition(":")[0] in ENDS])
def test_points_by_stage_are_those_of_the_benchmark(name):
    method = name.partition(":")[0]
    recipe, plan, _ = built(name)
    (pair,) = plan.pairs
    assert pair.teacher.module == ENDS[method][recipe.teacher.network]
    assert pair.student.module == STUDENTS[method][recipe.student.network]


@pytest.mark.parametrize(
    ("pair", "points"),
    [
        ("resnet32x4-resnet8x4", ["relu", "layer1.4", "layer2.4", "layer3.4"]),
        ("resnet56-resnet20", ["relu", "layer1.8", "layer2.8", "layer3.8"]),
        ("resnet110-resnet20", ["relu", "layer1.17", "layer2.17", "layer3.17"]),
        ("wrn_40_2-wrn_16_2", ["conv1", "block1.layer.5", "block2.layer.5", "block3.layer.5"]),
        ("vgg13-vgg8", ["relu0", "relu1", "relu2", "relu3", "relu4"]),
    ],
)
def test_flow_runs_from_the_stem_through_the_stages(pair, points):
    name = "cifar100-fsp" + (f":{pair}" if pair in variant_names("cifar100-fsp") else "")
    _, plan, _ = built(name)
    assert [point.module for point in plan.teacher_points] == points
    assert len(variant_names("cifar100-fsp")) == 5  # six pairs with the recipe itself


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_protocol_for_other_methods(name):
    options = dict.fromkeys(
        ("student", "teacher_checkpoint", "pretrained", "student_checkpoint", "student_pretrained",
         "checkpoint_key", "new_head", "data", "data_root", "download",
         "image_size", "image_channels", "image_normalize", "exif", "tokenizer", "workers", "val_fraction",
         "train_samples", "only_classes", "lr",
         "epochs", "batch_size", "precision")
    )  # fmt: skip
    options |= {"recipe": name, "teacher": "resnet56", "losses": (), "assignments": (), "trust_code": False}
    with click.Context(main):  # which knows what was typed
        protocol, own = build_recipe(options, protocol_only=True), Recipe.load(name)
    assert (protocol.losses, protocol.hints) == ({}, None)
    data = own.data.model_copy(update={"second_view": ()})
    assert (protocol.optimizer, protocol.epochs, protocol.data) == (own.optimizer, own.epochs, data)
    for method in ("kd", "at", "ofd", "recipe:cifar100-afd"):
        taught = Method.parse(method)
        resolve_recipe(protocol.model_copy(update={"losses": taught.losses, "hints": taught.hints}))


@pytest.mark.parametrize("name", ["cifar100-fsp", "cifar100-kdsvd"])
def test_losses_that_need_equal_channels_list_the_pairs_that_have_them(name):
    for variant in variant_names(name):
        recipe = Recipe.load(f"{name}:{variant}")
        widths = [
            {
                module.out_channels
                for module in network(n.network, 100, 3).modules()
                if isinstance(module, nn.Conv2d)
            }
            for n in (recipe.student, recipe.teacher)
        ]
        assert widths[0] == widths[1]


# -- settings of the papers ------------------------------------------------------------------------------

OF_KD = ("cifar100-fast", "cifar100-speedrun")
ITS_OWN_SCHEDULE = {
    "reviewkd",
    "distpro",
    "refilled",
    "refilled-supplement",
    "crcd",
    "fast",
    "speedrun",
    "mlkd",
    "mlkd-standardized",
}


@pytest.mark.parametrize(
    "name", [name for name in CIFAR if name.removeprefix("cifar100-") not in ITS_OWN_SCHEDULE]
)
def test_benchmark_settings(name):
    for variant in ("", *(f":{variant}" for variant in variant_names(name))):
        recipe = Recipe.load(name + variant)
        assert (recipe.epochs, recipe.batch_size, recipe.schedule.milestones) == (240, 64, (150, 180, 210))
        optimizer = recipe.optimizer
        assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 5e-4)
        assert optimizer.nesterov == (name in ("cifar100-rrd", "cifar100-rrd-kd"))
        assert optimizer.lr == (0.01 if recipe.student.network in SMALL else 0.05)
        if variant and recipe.teacher is None:
            assert variant == f":{recipe.student.network}"
        elif variant:
            assert variant == f":{recipe.teacher.network}-{recipe.student.network}"


@pytest.mark.parametrize("name", ["cifar100-reviewkd", "cifar100-distpro"])
def test_review_settings(name):
    recipe = Recipe.load(name)
    assert (recipe.batch_size, recipe.optimizer.lr, recipe.optimizer.nesterov) == (128, 0.1, True)
    assert Recipe.load(f"{name}:resnet32x4-ShuffleV1").optimizer.lr == 0.02


def test_longer_settings_of_mlkd():
    for name, epochs in (("cifar100-mlkd", 240), ("cifar100-mlkd-standardized", 480)):
        assert (Recipe.load(name).optimizer.lr, Recipe.load(name).epochs) == (0.025, epochs)
        mobile = Recipe.load(f"{name}:resnet32x4-ShuffleV2")
        assert (mobile.optimizer.lr, mobile.epochs) == (0.01, 960)


OTHER_FORMS = (
    "cifar100-kd-standardized",
    "cifar100-dkd-standardized",
    "cifar100-mlkd-standardized",
    "cifar100-sdd-dkd",
)  # of a loss, with weights of their own


@pytest.mark.parametrize("name", [name for name in CIFAR if name not in (*OTHER_FORMS, *OF_KD)])
def test_weights_are_the_defaults_that_the_losses_declare(name):
    resolved = resolve_recipe(Recipe.load(name)).losses
    main = next(
        (loss for loss in sorted(LOSSES, key=len, reverse=True) if name.startswith(f"cifar100-{loss}")), "ce"
    )
    assert resolved[main].weight == get_loss(main).info.default_weight
    if not get_loss(main).info.contains_classification:
        assert resolved["ce"].weight == get_loss(main).info.default_ce_weight


@pytest.mark.parametrize("name", OF_KD)
def test_short_recipes_are_kd_in_a_quarter_of_the_epochs(name):
    short, whole = Recipe.load(name), Recipe.load("cifar100-kd")
    assert short.epochs * 4 == whole.epochs
    assert short.losses == whole.losses
    assert (short.data.flip, short.schedule.kind, short.optimizer.nesterov) == (
        "alternate",
        "one-cycle",
        True,
    )


@pytest.mark.parametrize(
    ("name", "loss", "key", "expected"),
    [
        ("reviewkd", "reviewkd", "weight", {"wrn_40_2-wrn_16_2": 5, "resnet56-resnet20": 0.6,
         "resnet110-resnet20": 0.6, "resnet110-resnet32": 1, "resnet32x4-ShuffleV1": 5,
         "resnet32x4-ShuffleV2": 8}),
        ("dkd", "dkd", "beta", {"wrn_40_2-wrn_16_2": 6, "resnet56-resnet20": 2, "resnet110-resnet32": 2,
         "vgg13-vgg8": 6, "vgg13-MobileNetV2": 6, "ResNet50-MobileNetV2": 8, "wrn_40_2-ShuffleV1": 8}),
    ],
)  # fmt: skip
def test_weights_by_pair(name, loss, key, expected):
    for pair, value in expected.items():
        config = Recipe.load(f"cifar100-{name}:{pair}").losses[loss]
        assert (config.weight if key == "weight" else config.options[key]) == value


def test_pairing_of_metric_and_hint_type():
    # Section 4.2.1: R2CCA with AT, CKA with the others; section 4.2.2: by teacher.
    names = [name for name in RECIPES if name.startswith(("pursuhint-pre", "pursuhint-post"))]
    metrics = {name: Recipe.load(name).hints.metric for name in names}
    assert metrics == {
        "pursuhint-pre-at": "r2cca",
        "pursuhint-pre-fitnet": "cka",
        "pursuhint-pre-vid": "cka",
        "pursuhint-pre-at-skd": "r2cca",
        "pursuhint-pre-fitnet-skd": "cka",
        "pursuhint-pre-vid-skd": "cka",
        "pursuhint-post-resnet110": "cka",
        "pursuhint-post-resnet32x4": "r2cca",
        "pursuhint-post-wrn-40-2": "r2cca",
    }


@pytest.mark.parametrize("hint", ["at", "fitnet", "vid"])
@pytest.mark.parametrize(("logits", "beside"), [("", {"ce", "kd"}), ("-skd", {"skd"})])
def test_pre_activation_settings(hint, logits, beside):
    recipe = Recipe.load(f"pursuhint-pre-{hint}{logits}")
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.lr) == (350, 64, 0.05)
    assert (recipe.schedule.milestones, recipe.schedule.gamma) == ((200, 250, 300), 0.1)
    assert (recipe.hints.activation, recipe.hints.k) == ("pre", 3)
    assert set(recipe.losses) == {*beside, hint}
    assert Recipe.load(f"pursuhint-pre-{hint}{logits}:resnet8").student.network == "resnet8"


COMBINED = {
    "wsld-at": {"wsld": 1, "at": 1000},
    "afd": {"ce": 1, "kd": 0.9, "afd": 200},
    "crd-at-kd": {"ce": 1, "kd": 1, "crd": 0.8, "at": 1000},
}
PAIRS_OF_TABLE_5 = {
    "": ("resnet110", "resnet20", "cka"),
    ":resnet110-resnet32": ("resnet110", "resnet32", "cka"),
    ":resnet32x4-resnet8x4": ("resnet32x4", "resnet8x4", "r2cca"),
    ":resnet32x4-ShuffleV1": ("resnet32x4", "ShuffleV1", "r2cca"),
    ":wrn_40_2-wrn_16_2": ("wrn_40_2", "wrn_16_2", "r2cca"),
    ":wrn_40_2-ShuffleV1": ("wrn_40_2", "ShuffleV1", "r2cca"),
}


@pytest.mark.parametrize("name", COMBINED)
@pytest.mark.parametrize("pair", PAIRS_OF_TABLE_5)
def test_methods_at_chosen_points(name, pair):
    recipe = Recipe.load(f"pursuhint-{name}{pair}")
    named = (recipe.teacher.network, recipe.student.network, recipe.hints.metric)
    assert named == PAIRS_OF_TABLE_5[pair]
    assert (recipe.hints.strategy, recipe.hints.k, recipe.hints.activation) == ("chosen", 3, "post")
    assert (recipe.epochs, recipe.optimizer.lr) == (240, 0.01 if "Shuffle" in pair else 0.05)
    resolved = resolve_recipe(recipe).losses
    assert {loss: config.weight for loss, config in resolved.items()} == COMBINED[name]


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("rrd-kd", {"ce": 1, "rrd": 1, "kd": 1}),
        ("icd-kd", {"ce": 1, "icd": 1, "kd": 1}),
        ("crd-kd", {"ce": 1, "crd": 0.8, "kd": 1}),
        ("norm-kd", {"ce": 0.1, "norm": 1, "kd": 1}),
        ("norm-crd", {"ce": 0.1, "norm": 1, "crd": 0.8}),
        ("wcord-kd", {"ce": 1, "wcord": 1, "kd": 1}),
        ("itrd-corr", {"ce": 1, "itrd": 1}),
        ("itrd-corr-mi", {"ce": 1, "itrd": 1}),
    ],
)
def test_combinations_of_the_tables(name, weights):
    recipe = resolve_recipe(Recipe.load(f"cifar100-{name}"))
    assert {loss: config.weight for loss, config in recipe.losses.items()} == weights
    alone = Recipe.load(f"cifar100-{name.partition('-')[0]}")
    assert (recipe.optimizer, recipe.schedule, recipe.epochs) == (
        alone.optimizer,
        alone.schedule,
        alone.epochs,
    )


def test_terms_of_itrd():
    options = {n: Recipe.load(f"cifar100-itrd-{n}").losses["itrd"].options for n in ("corr", "corr-mi")}
    assert options["corr"]["mutual_weight"] == 0
    assert (options["corr-mi"]["mutual_weight"], options["corr-mi"]["alpha"]) == (1, 1.01)


def test_wide_and_deep_teachers():
    for student in ("wrn_16_4", "wrn_28_2", "wrn_16_2"):
        recipe = Recipe.load(f"cifar100-refilled:wrn_28_4-{student}")
        assert (recipe.teacher.network, recipe.student.network) == ("wrn_28_4", student)
    for name in (name for name in RECIPES if name.startswith("imagenet-")):
        for variant, student in (("resnet18", "torchvision:resnet18"), ("mobilenet", "timm:mobilenetv1_100")):
            recipe = Recipe.load(f"{name}:resnet50-{variant}")
            assert (recipe.teacher.network, recipe.student.network) == ("torchvision:resnet50", student)
    assert Recipe.load("imagenet-dkd:resnet50-mobilenet").losses["dkd"].options["beta"] == 2
    assert Recipe.load("imagenet-reviewkd:resnet50-mobilenet").losses["reviewkd"].weight == 8
    assert Recipe.load("imagenet-rrd-kd").losses["kd"].weight == 1


def test_both_settings_of_refilled():
    conference, extended = Recipe.load("cifar100-refilled"), Recipe.load("cifar100-refilled-supplement")
    assert (conference.batch_size, conference.schedule.milestones) == (128, (100, 140, 180))
    assert (extended.batch_size, extended.schedule.milestones) == (256, (50, 100, 150))
    options = extended.losses["refilled"].options
    assert (options["temperature"], options["strength"], options["k_hat"]) == (1, 1, "fewest")
    assert extended.student.options == extended.teacher.options == {"dropout": 0.3, "bias": True}


def test_imagenet_settings():
    recipe = Recipe.load("imagenet-pursuhint")
    assert (recipe.teacher.network, recipe.student.network) == (
        "torchvision:resnet34",
        "torchvision:resnet18",
    )
    assert (recipe.epochs, recipe.batch_size, recipe.schedule.milestones) == (100, 256, (30, 60, 80, 90))
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay) == (0.1, 1e-4)
    assert (recipe.hints.metric, recipe.hints.k) == ("cka", 4)
    assert recipe.losses["at"].options["p"] == 1
    assert recipe.losses["kd"].options["temperature"] == 4
    assert Recipe.load("imagenet-crd").schedule.milestones == (30, 60, 90)
    assert (Recipe.load("imagenet-rrd").epochs, Recipe.load("imagenet-rrd").optimizer.nesterov) == (120, True)


# -- files that extend one another -----------------------------------------------------------------------


def test_extends_a_shipped_recipe_and_a_file_beside_it(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "extends: cifar100-crd\nepochs: 3\n"
        "variants:\n  wide: {student: wrn_16_4, losses: {crd: {negatives: 7}}}\n"
    )
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nlosses: {kd: 0.5}\nhints: null\n")
    recipe = Recipe.load(str(tmp_path / "mine.yaml"))
    assert (recipe.epochs, recipe.student.network, recipe.optimizer.lr) == (3, "resnet8x4", 0.05)
    assert {name: config.weight for name, config in recipe.losses.items()} == {"ce": 1, "crd": 0.8, "kd": 0.5}
    wide = Recipe.load(f"{tmp_path / 'mine.yaml'}:wide")
    assert wide.student.network == "wrn_16_4"
    assert (wide.losses["crd"].options["negatives"], wide.losses["crd"].options["momentum"]) == (7, 0.5)
    assert Recipe.from_yaml("extends: cifar100-at\nepochs: 2").epochs == 2


def test_a_section_may_add_to_what_the_base_only_names():
    changes = "data: {augment: none}\nteacher: {checkpoint: t.pth}\nstudent: {partial: true}"
    recipe = Recipe.from_yaml(f"extends: cifar100-at\n{changes}")
    assert (recipe.data.name, recipe.data.augment) == ("cifar100", ())
    assert (recipe.teacher.network, recipe.teacher.checkpoint) == ("resnet32x4", "t.pth")
    assert (recipe.student.network, recipe.student.partial) == ("resnet8x4", True)
    assert Recipe.from_yaml("extends: cifar100-at\ndata: {name: digits}").data.name == "digits"
    assert {Recipe.load(name).data.name for name in CIFAR} == {"cifar100"}


def test_views_of_mlkd():
    for name in ("cifar100-mlkd", "cifar100-mlkd-standardized:vgg13-vgg8"):
        assert Recipe.load(name).data.second_view == ("standard", "randaugment")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.yaml": "extends: b.yaml", "b.yaml": "extends: a.yaml"}, "in a circle"),
        ({"a.yaml": "extends: none.yaml"}, "the file does not exist"),
        ({"a.yaml": "extends: cifar100-atta"}, "no recipe named 'cifar100-atta'; did you mean"),
        ({"a.yaml": "extends: [1]"}, "'extends' must be a recipe's name or a file"),
        ({"a.yaml": "variants: [1]"}, "'variants' must be a mapping"),
        ({"a.yaml": "extends: cifar100-at\nepoch: 3"}, "unknown key 'epoch'; did you mean 'epochs'"),
    ],
)
def test_mistakes_in_files_that_extend(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(PursuhintError, match=re.escape(message)):
        Recipe.load(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cifar100-at:resnet110-resnet30",
            "no variant 'resnet110-resnet30'; did you mean 'resnet110-resnet32'",
        ),
        ("digits-vanilla:x", "has no variant 'x'; there are none"),
        ("cifar100-ta:resnet110-resnet20", "no recipe named 'cifar100-ta:resnet110-resnet20'"),
    ],
)
def test_unknown_variants(name, message):
    with pytest.raises(PursuhintError, match=message):
        Recipe.load(name)


# -- training with them ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of small images in two classes, 20 to train on and 4 to test."""
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0).integers
    for split, count in (("train", 10), ("test", 2)):
        for name in ("ant", "bee"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("name", ["cifar100-crd-kd:resnet56-resnet20", "pursuhint-pre-vid:resnet8"])
def test_trains_a_step_on_a_folder_of_images(name, images, tmp_path):
    settings = ("epochs=1", f"data.name=folder:{images}", "teacher.network=resnet14")
    recipe = Recipe.load(name).override(settings)
    record = train(recipe, tmp_path / "run", device="cpu", teacher=create_model("resnet14", num_classes=2))
    (line,) = record.metrics
    weights = {loss: config.weight for loss, config in record.recipe.losses.items()}
    total = sum(weight * line[f"train_{loss}"] for loss, weight in weights.items())
    assert line["train_loss"] == pytest.approx(total, rel=1e-4)
    assert line["lr"] == 0.05
    assert (record.plan is None) == name.startswith("cifar100")
