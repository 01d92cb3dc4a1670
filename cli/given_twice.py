"""Keys of the recipe that a command line gives twice, so that one of the two values would be ignored."""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint.errors import PursuhintError

from .options import typed

_KEYS = {
    "student": "student.network",
    "student_checkpoint": "student.checkpoint",
    "teacher": "teacher.network",
    "teacher_checkpoint": "teacher.checkpoint",
    "checkpoint_key": "teacher.checkpoint_key",
    "new_head": "teacher.new_head",
    "data": "data.name",
    "data_root": "data.root",
    "tokenizer": "data.text.tokenizer",
    "download": "data.download",
    "image_size": "data.image_size",
    "image_channels": "data.channels",
    "image_normalize": "data.normalize",
    "exif": "data.exif",
    "val_fraction": "data.val_fraction",
    "workers": "data.workers",
    "train_samples": "data.train_samples",
    "only_classes": "data.classes",
    "lr": "optimizer.lr",
    "epochs": "epochs",
    "batch_size": "batch_size",
    "precision": "precision",
    "seed": "seed",
    "save_every_steps": "save_every_steps",
    "k": "hints.k",
    "position": "hints.position",
    "activation": "hints.activation",
    "samples": "hints.samples",
    "max_samples": "hints.max_samples",
    "stable_at": "hints.stable_at",
}
"""Key of the recipe by parameter of a command."""

_SHORT = {"student": "network", "teacher": "network", "data": "name"}


def refuse_given_twice(assignments: Sequence[str], losses: Sequence[str]) -> None:
    """Refuse a key of the recipe that ``--set`` and another option of the running command give, or two of it.

    Args:
        assignments: the values of ``--set``.
        losses: the values of ``--loss``, whose weights and options are keys, too.

    Raises:
        PursuhintError: a key is given twice.
    """
    given = {_KEYS[str(option.name)]: option.opts[0] for option in typed(*_KEYS)}
    for loss in losses:
        for key in _keys_of_loss(loss):
            given[key] = f"--loss {loss}"
    for assignment in assignments:
        key = _whole(assignment.partition("=")[0].strip())
        if key in given:
            raise PursuhintError(
                f"{given[key]} and --set {assignment} both give {key}, and one of them would be ignored; "
                "leave one out"
            )
        given[key] = f"--set {assignment}"


def _keys_of_loss(loss: str) -> list[str]:
    """The keys that ``at=1000:p=1`` gives; a loss without a weight leaves that to ``--set``."""
    from pursuhint.losses import ALIASES

    head, _, options = loss.partition(":")
    name, weighted, _ = head.partition("=")
    name = ALIASES.get(name.strip(), name.strip())
    keys = [one.partition("=")[0].strip() for one in options.split(",") if "=" in one]
    return [f"losses.{name}.{key}" for key in (["weight"] if weighted else []) + keys]


def _whole(key: str) -> str:
    """A key without its short form: ``data`` is ``data.name``, ``losses.at`` is its weight."""
    from pursuhint.losses import ALIASES

    parts = key.split(".")
    if len(parts) == 1 and key in _SHORT:
        return f"{key}.{_SHORT[key]}"
    if parts[0] == "losses" and len(parts) > 1:
        parts[1] = ALIASES.get(parts[1], parts[1])
        if len(parts) == 2:
            parts.append("weight")
    return ".".join(parts)
