"""Options that together make a recipe, for ``train`` and ``compare``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import completion, early_checks
from .early_checks import early
from .given_twice import refuse_given_twice
from .options import WholeNumber, apply
from .recipe_keys import RECIPE_KEYS

if TYPE_CHECKING:
    from pursuhint.training import Recipe

_OWN: dict[str, Callable[[Any], Any]] = {
    "recipe": click.option(
        "--recipe",
        callback=early(early_checks.recipe),
        shell_complete=completion.recipe,
        metavar="NAME|FILE",
        help="Settings to start from: a name of 'pursuhint list recipes' or a YAML file, with :VARIANT for "
        "one of its variants. Options override it.",
    ),
    "losses": click.option(
        "--loss",
        "losses",
        callback=early(early_checks.loss),
        shell_complete=completion.loss,
        metavar="NAME[=WEIGHT][:key=value,...]",
        multiple=True,
        help="A term of the total loss, e.g. kd, at=1000 or at=1000:p=1. Without a weight, the paper's. "
        "Repeatable; replaces the recipe's losses. Cross-entropy (ce) is added unless a loss contains it.",
    ),
    "epochs": click.option(
        "--epochs", type=WholeNumber(min=1), help="Passes over the training data.  [default: 240]"
    ),
    "lr": click.option("--lr", type=float, help="Base learning rate.  [default: 0.05]"),
    "train_samples": click.option(
        "--train-samples",
        metavar="N",
        type=WholeNumber(min=1),
        help="Train on a class-balanced subset of N images, the same one for every seed.  [default: all]",
    ),
    "only_classes": click.option(
        "--only-classes",
        metavar="LIST",
        help="Classes of the data to train on and test, e.g. 0-49 or 3,7,20-29.  [default: all]",
    ),
    "precision": click.option(
        "--precision",
        type=click.Choice(["float32", "bf16", "fp16"]),
        help="Automatic mixed precision; fp16 on a GPU only.  [default: float32]",
    ),
    "assignments": click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        help="Any other key of the recipe, e.g. optimizer.weight_decay=1e-4, schedule.kind=step, "
        "data.augment=standard,cutout, acceleration.teacher_precision=bf16. "
        "The recipe.yaml of any run shows them all. Repeatable.",
    ),
}


_SHARED = (
    "teacher", "teacher_checkpoint", "pretrained", "checkpoint_key", "new_head", "student",
    "student_checkpoint", "student_pretrained", "data", "data_root", "tokenizer", "download", "image_size",
    "image_channels", "image_normalize", "exif", "val_fraction", "workers", "batch_size", "trust_code",
)  # fmt: skip


_IN_SECTIONS = (
    "student", "student_checkpoint", "teacher", "teacher_checkpoint", "checkpoint_key", "new_head", "data",
    "data_root", "download", "image_size", "image_channels", "image_normalize", "val_fraction", "workers",
    "train_samples", "only_classes", "lr",
)  # fmt: skip
"""Parameters that give a key of a section by their value, which neither None nor False does."""


def recipe_options(command: Any, *, without: tuple[str, ...] = ()) -> Any:
    """Add the options that `build_recipe` reads, except those that a command defines itself."""
    for name, option in reversed(_OWN.items()):
        if name not in without:
            command = option(command)
    return apply(*(name for name in _SHARED if name not in without))(command)


def build_recipe(
    options: dict[str, Any],
    *,
    hints: str | None = None,
    decided_hints: tuple[str, ...] = (),
    protocol_only: bool = False,
    **more: Any,
) -> Recipe:
    """The recipe that the options describe.

    Args:
        options: the values of `recipe_options`, by parameter name; None for what was not given.
        hints: the value of ``--hints``; the recipe's other hint keys stay.
        decided_hints: hint keys that the command decides itself, so that ``--set`` cannot.
        protocol_only: take neither losses nor hints nor a second view of images from ``--recipe``.
        more: further entries, which win, as nested dictionaries.

    Raises:
        PursuhintError: no student, an unknown key, a wrong value, or two of one key.
    """
    from pursuhint.errors import PursuhintError
    from pursuhint.training import Recipe, parse_losses
    from pursuhint.training.recipe.hints_syntax import check_effect, with_hints
    from pursuhint.training.recipe.received import check_code
    from pursuhint.training.recipe.schema import PASSED

    refuse_given_twice(options["assignments"], options["losses"] or ())
    file, trust_code = options["recipe"], options["trust_code"]
    if trust_code and not file:
        raise PursuhintError(
            "--trust-code needs --recipe FILE, whose code it trusts; names typed here are run"
        )
    values: dict[str, Any] = Recipe.read(file).to_dict() if file else {}
    if protocol_only:
        data = {key: value for key, value in values.get("data", {}).items() if key != "second_view"}
        values |= {"losses": {}, "hints": None, "data": data}

    def put(section: str, key: str, value: Any) -> None:
        if value is not None and value is not False:
            values[section] = {
                **(values.get(section) or {}),
                key: str(value) if isinstance(value, Path) else value,
            }

    if options["teacher_checkpoint"] is not None and not (options["teacher"] or values.get("teacher")):
        raise PursuhintError("--teacher-checkpoint needs --teacher NAME, the network that it belongs to")
    for option in _IN_SECTIONS:
        section, key = RECIPE_KEYS[option].split(".")
        put(section, key, options[option])
    _check_published(options, values)
    if (options["checkpoint_key"] or options["new_head"]) and not (
        options["teacher_checkpoint"]
        or options["pretrained"]
        or (values.get("teacher") or {}).get("checkpoint")
    ):
        raise PursuhintError("--checkpoint-key and --new-head need --teacher-checkpoint FILE")
    put("student", "partial", bool(options["student_checkpoint"] or options["student_pretrained"]))
    if options["tokenizer"] is not None:
        data = values.get("data") or {}
        put("data", "text", {**(data.get("text") or {}), "tokenizer": options["tokenizer"]})
    if options["exif"] is not None:
        values["data"] = {**(values.get("data") or {}), "exif": options["exif"]}
    if options["losses"]:
        values["losses"] = parse_losses(options["losses"])
    for key in ("epochs", "batch_size", "precision"):
        if options[key] is not None:
            values[key] = options[key]
    values |= more
    if hints is not None:
        values = with_hints(values, hints)
    if (values.get("student") or {}).get("network") in (None, PASSED):
        raise PursuhintError(
            "which network is to be trained? give --student NAME, or a --recipe that names one"
        )
    recipe = Recipe.from_dict(values, source="the options").override(options["assignments"])
    check_effect(recipe.hints, options["assignments"], decided=decided_hints)
    if file:
        typed = (options["student"], options["teacher"])
        check_code(recipe, f"the recipe {file}", trust_code=trust_code, typed=typed)
    return _with_published(recipe, options)


_PRETRAINED = {"teacher": "pretrained", "student": "student_pretrained"}


def _check_published(options: dict[str, Any], values: dict[str, Any]) -> None:
    """Refuse published weights where there can be none, or beside others.

    Raises:
        PursuhintError: no such network, a network that nobody publishes, or a checkpoint is given, too.
    """
    from pursuhint.errors import PursuhintError
    from pursuhint.models.published_weights import check_published

    for role, key in _PRETRAINED.items():
        if not options[key]:
            continue
        option = f"--{key.replace('_', '-')}"
        if options[f"{role}_checkpoint"] is not None:
            raise PursuhintError(f"give either --{role}-checkpoint FILE or {option}, not both")
        config = values.get(role) or {}
        network = config if isinstance(config, str) else config.get("network")
        if network is None:
            raise PursuhintError(f"{option} needs --{role} NAME, such as torchvision:resnet18")
        check_published(network)


def _with_published(recipe: Recipe, options: dict[str, Any]) -> Recipe:
    """The recipe with the files of published weights as its checkpoints, fetched if they are not there."""
    from .networks import published_file

    for role, key in _PRETRAINED.items():
        if options[key]:
            config = getattr(recipe, role)
            classifier = True if role == "student" else None
            update = {"checkpoint": str(published_file(config.network, classifier=classifier))}
            recipe = recipe.model_copy(update={role: config.model_copy(update=update)})
    return recipe


def rounded_for_recording(
    recipe: Recipe, recording: Path | None, options: dict[str, Any], *, out: Path
) -> Recipe:
    """The recipe for ``--record-teacher``: the teacher's outputs in float16, and maps that attention transfer
    alone reads with one channel, unless ``--set`` says otherwise.

    Raises:
        PursuhintError: no teacher, or a loss that differentiates it; or the recording and the results
            (``out``) share a folder.
    """
    if recording is None:
        return recipe
    from pursuhint.training.recipe.recordable import check_apart, check_recordable

    check_apart(recording, out)
    check_recordable(recipe)
    chosen = {text.partition("=")[0].strip() for text in options["assignments"]}
    defaults = {"acceleration.reduce_teacher": "true"}
    if recipe.acceleration.teacher_rounding == "none":
        defaults["acceleration.teacher_rounding"] = "float16"
    return recipe.override([f"{key}={value}" for key, value in defaults.items() if key not in chosen])
