"""Numbers as text, and sentences that several kinds of report share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pursuhint._util.command_line import as_shell_line
from pursuhint.data.preprocessing import Normalization, Preprocessing
from pursuhint.published.names import with_variants
from pursuhint.similarity import METRICS, get_metric

if TYPE_CHECKING:
    from pursuhint._util.provenance import BaseProvenance
    from pursuhint.models.teacher_accuracy import TeacherAccuracy
    from pursuhint.study.facts import DataFacts, NetworkFacts
    from pursuhint.study.paired_statistics import PairedComparison, Summary
    from pursuhint.training.recipe.schema import Recipe

_HASH = 12  # so many digits of a hash are enough to tell files apart; the tables have all

HINTS_IN_SHORT = (
    "A small network, the student, can learn from a large one, the teacher, by imitating what some of its "
    "layers compute; these are its hints. By convention hints are taken where the resolution is about to "
    "change. PURSUhInT instead groups the teacher's layers by how similarly they represent the data, and "
    "takes one hint from the centre of every group."
)


def count(number: int, noun: str) -> str:
    """``1 hint``, ``3 hints``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def percent(value: float | None) -> str:
    """``97.50 %``."""
    return "unknown" if value is None else f"{value:.2f} %"


def mean_std(summary: Summary) -> str:
    """``97.50 ± 0.21 %``, without the spread for a single seed."""
    spread = "" if summary.std is None else f" ± {summary.std:.2f}"
    return f"{summary.mean:.2f}{spread} %"


def signed(value: float) -> str:
    """``+0.33``, ``-1.20``, ``0.00``."""
    text = f"{value:+.2f}"
    return text[1:] if float(text) == 0 else text


NEW_IMAGES_NOTE = (
    " The interval is about these test images; the one beside it also holds for others from the same source."
)


def new_images_interval(pair: PairedComparison) -> str:
    """The interval of a difference for other test images too: ``-0.40 to +1.20``; a dash without one."""
    wide = pair.new_images
    return "–" if wide is None else f"{signed(wide.low)} to {signed(wide.high)}"


def equality_note(margin: float | None, confidence: float = 0.95) -> str:
    """What the verdict "equal" means, as a sentence after a space; empty for studies without a margin."""
    if margin is None:
        return ""
    return (
        f" Equal means that two one-sided tests at {(1 - confidence) * 100:.2g} % show a difference below "
        f"{margin:g} points, the margin; it takes precedence over better and worse."
    )


def thousands(number: int) -> str:
    """A number of parameters in two or three digits: ``467 k``, ``1.7 M``."""
    if number >= 1_000_000:
        return f"{number / 1_000_000:.1f}\N{NO-BREAK SPACE}M"
    return f"{number / 1000:.0f}\N{NO-BREAK SPACE}k" if number >= 10_000 else f"{number:,}"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def brief(seconds: float) -> str:
    """``0.03 s``, ``2.5 s``, and from a minute on as `duration`: for short times."""
    if seconds >= 60:
        return duration(seconds)
    return f"{seconds:.1f} s" if seconds >= 0.95 else f"{max(seconds, 0.001):.1g} s"


def metric_title(metric: str) -> str:
    """Title of a metric in texts."""
    return get_metric(metric).title if metric in METRICS else metric


def network_text(name: str, parameters: int | None) -> str:
    """A network and its size."""
    return name if parameters is None else f"{name}, {parameters:,} parameters"


def data_text(data: DataFacts) -> str:
    """The data of a study: name, size of the splits, images and classes."""
    pixels = " x ".join(map(str, data.image_size or ()))
    samples = f"images of {pixels} pixels" if pixels else "samples"
    return (
        f"{data.name}: {data.train:,} training and {data.test:,} test {samples}, {data.num_classes} classes"
    )


def teacher_text(name: str, parameters: int | None, accuracy: TeacherAccuracy | None) -> str:
    """A teacher, its size and its accuracy on the test split."""
    text = network_text(name, parameters)
    if accuracy is None:
        return text
    if accuracy.top1 is None:
        return f"{text}; accuracy not measured, since {accuracy.reason}"
    return f"{text}, {percent(accuracy.top1)} of the test samples right"


def teacher_sentence(teacher: NetworkFacts) -> str:
    """How accurate the teacher of a study is, without a full stop."""
    if teacher.top1 is None and teacher.accuracy is not None:
        return (
            f"The accuracy of the teacher, {teacher.name}, was not measured, since {teacher.accuracy.reason}"
        )
    return f"The teacher, {teacher.name}, classifies {percent(teacher.top1)} of the test images correctly"


def teacher_warning(accuracy: TeacherAccuracy | None) -> tuple[str, ...]:
    """What is wrong with a teacher, as the first sentence of a page; nothing where nothing is."""
    text = None if accuracy is None else accuracy.warning()
    return () if text is None else (f"Warning: {text}.",)


def passed_from_python(recipe: Recipe) -> tuple[str, ...]:
    """Which arguments were Python objects, which the recipe cannot build: networks, data, losses, ..."""
    names = {"student": recipe.student.network, "data": recipe.data.name}
    if recipe.teacher is not None:
        names["teacher"] = recipe.teacher.network
    own = {"loss": "losses", "callback": "callbacks", "optimizer": "optimizer", "scheduler": "scheduler"}
    parts = dict.fromkeys(own[part.partition(" ")[0]] for part in recipe.passed)
    return (*(role for role, name in names.items() if name.startswith("python:")), *parts)


def loss_text(name: str, options: Mapping[str, Any]) -> str:
    """A loss by name, with the methods that its hyperparameters add: ``kd + CTKD``."""
    return " + ".join(with_variants(name, options))


def training_rows(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """Rows on epochs, batches, optimizer and schedule of a recipe."""
    optimizer, schedule = recipe.optimizer, recipe.schedule
    steps = f" at {listed([str(m) for m in schedule.milestones])}" if schedule.milestones else ""
    name = {"sgd": "SGD", "adamw": "AdamW", "dot": "DOT"}.get(optimizer.name, optimizer.name)
    return (
        ("Training", f"{count(recipe.epochs, 'epoch')}, batches of {recipe.batch_size}, {recipe.precision}"),
        (
            "Optimiser",
            f"{name}, learning rate {optimizer.lr:g} ({schedule.kind}{steps}), momentum "
            f"{optimizer.momentum:g}{' (Nesterov)' if optimizer.nesterov else ''}, weight decay "
            f"{optimizer.weight_decay:g}",
        ),
    )


def image_rows(
    preprocessing: Preprocessing | None, teacher: Normalization | None = None
) -> tuple[tuple[str, str], ...]:
    """The row of a page's settings on how images become the networks' input; none if that is not known.

    Args:
        preprocessing: of the student's images, or of the one network's.
        teacher: what they are converted to for a teacher.
    """
    if preprocessing is None:
        return ()
    converted = "" if teacher is None else f"; converted for the teacher to {teacher}"
    return (("Images", f"{preprocessing.line().removeprefix('images: ')}{converted}"),)


def zoom_note(epochs: int) -> str:
    """The note on the accuracy axis of training curves, which leaves out low values of long runs."""
    return "The low accuracies of the first epochs are left out." if epochs >= 8 else ""


def best_limit(chosen_on: str) -> tuple[str, ...]:
    """Whether the accuracy of the best epoch is biased."""
    if chosen_on == "val":
        return ("The best epoch was chosen on the validation split, so its test accuracy is unbiased.",)
    return (
        "The best epoch was chosen on the test images themselves, so its accuracy is biased upwards; the "
        "accuracy of the last epoch is not.",
    )


def grain_limit(test_images: int | None) -> tuple[str, ...]:
    """The step between two accuracies on a small test set."""
    if not test_images or test_images >= 5000:
        return ()
    share = 100 / test_images
    return (f"The test set has {test_images:,} images, so one image is {share:.2f} percentage points.",)


def toy_limit(data: str) -> tuple[str, ...]:
    """The limitation of results on the digits."""
    if data != "digits":
        return ()
    return (
        "The digits are a toy data set of 8 x 8 pixels. What is seen here need not hold on photographs, nor "
        "for deeper networks and longer training.",
    )


def environment_rows(
    values: Mapping[str, Any], made: BaseProvenance | None = None
) -> tuple[tuple[str, str], ...]:
    """Where a result comes from and what it ran on.

    Args:
        values: as in ``environment.json``; may be empty.
        made: command, time, weights and data; None for results of older versions.
    """
    packages = ", ".join(f"{name} {version}" for name, version in values.get("packages", {}).items())
    git = values.get("git") or {}
    changed = " with changes" if git.get("changed") else ""
    first = provenance_rows(made) or (
        ("Command", as_shell_line(values.get("command", ""))),
        ("Started", str(values.get("started", ""))),
        ("PursuHint", str(values.get("pursuhint", ""))),
    )
    rows = (
        *first,
        ("Python", str(values.get("python", ""))),
        ("Packages", packages),
        ("System", str(values.get("platform", ""))),
        ("Device", f"{values['device']} ({values.get('device_name', '')})" if "device" in values else ""),
        ("CPU threads", str(values.get("threads", ""))),
        ("Git commit of the working folder", f"{git['commit'][:12]}{changed}" if git.get("commit") else ""),
    )
    return tuple((name, value) for name, value in rows if value)


def provenance_rows(made: BaseProvenance | None) -> tuple[tuple[str, str], ...]:
    """Rows on command, time, weights and hashes of a result; none for one of an older version."""
    if made is None or not made.pursuhint:
        return ()
    return (
        ("Command", made.command),
        ("Started", made.started),
        ("Ended", made.ended),
        ("PursuHint", f"{made.pursuhint}, with PyTorch {made.torch}"),
        ("Checkpoint", made.checkpoint),
        ("SHA-256 of the checkpoint", made.checkpoint_sha256),
        (f"SHA-256 of the weights of {made.network}", made.network_fingerprint),
        (f"Fingerprint of {made.data}", made.data_fingerprint),
    )


def footer(environment: Mapping[str, Any], made: BaseProvenance | None = None) -> str:
    """The last line of a page: version, command, time, and hashes of weights and data.

    Args:
        environment: as in ``environment.json``; may be empty.
        made: where the results come from; None for results of older versions.
    """
    pictures = "The pictures are also in the folder figures."
    if made is None or not made.pursuhint:
        version, started = environment.get("pursuhint", ""), str(environment.get("started", ""))[:10]
        text = f"Made with PursuHint {version}".strip()
        return f"{text}{f'; results of {started}' if started else ''}. {pictures}"
    weights = [PurePath(made.checkpoint).name] if made.checkpoint else []
    weights += [f"SHA-256 {made.checkpoint_sha256[:_HASH]}"] if made.checkpoint_sha256 else []
    weights += [f"weights {made.network_fingerprint[:_HASH]}"] if made.network_fingerprint else []
    network = f"{made.network} ({', '.join(weights)})" if weights else made.network
    data = (
        f"{made.data} (fingerprint {made.data_fingerprint[:_HASH]})" if made.data_fingerprint else made.data
    )
    ended = f", ended {made.ended}" if made.ended else ""
    return (
        f"Made with PursuHint {made.pursuhint} from {network} on {data}; started {made.started}{ended}; "
        f"command: {made.command}. {pictures}"
    )
