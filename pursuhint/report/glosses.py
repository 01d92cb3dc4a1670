"""Short explanations of the terms that a page uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

_NOT_READ = ("data", "live")  # of pictures: files, not words

# Term, pattern that finds it, explanation.
_GLOSSES: tuple[tuple[str, str, str], ...] = (
    (
        "AT",
        r"\bAT\b",
        "attention transfer: the student imitates where in the image the teacher's features are large.",
    ),
    (
        "CKA",
        r"\bCKA\b",
        "centred kernel alignment: how alike two layers tell the images apart, from 0 (not at all) to 1 (the "
        "same up to rotation and scale).",
    ),
    ("cross-entropy", r"\b[Cc]ross-entropy\b", "the usual loss on the labels; lower is better."),
    (
        "hint",
        r"\b[Hh]ints?\b",
        "features of a layer of the teacher that the student is trained to imitate.",
    ),
    (
        "Holm's correction",
        r"\b[Cc]orrect(ed|ion)\b",
        "with many comparisons some differences appear by chance; corrected p-values account for that.",
    ),
    (
        "inertia",
        r"\b[Ii]nertia\b",
        "sum of squared distances of the layers to the centre of their group; smaller groups are tighter.",
    ),
    (
        "interval",
        r"\b[Ii]ntervals?\b",
        "where the true mean difference lies with the confidence given, seeds being drawn at random.",
    ),
    (
        "KD",
        r"\bKD\b",
        "knowledge distillation: the student imitates the teacher's probabilities of the classes.",
    ),
    (
        "k-means",
        r"\b[Kk]-means\b",
        "an algorithm that puts similar layers into k groups; it may stop before the best grouping.",
    ),
    ("logits", r"\b[Ll]ogits?\b", "outputs of a network before they become probabilities."),
    (
        "margin",
        r"\b[Mm]argin\b",
        "the smallest difference that matters; two ways shown to differ by less are equal.",
    ),
    (
        "NCM",
        r"\bNCM\b",
        "nearest class mean: every image is given the class whose mean embedding is nearest; no classifier.",
    ),
    (
        "position",
        r"\b[Pp]ositions?\b",
        "number of a layer among those that can give hints, counted from the input.",
    ),
    (
        "R²CCA",
        r"R²CCA",
        "mean squared canonical correlation: which share of one layer follows linearly from another, "
        "from 0 to 1.",
    ),
    (
        "seed",
        r"\b[Ss]eeds?\b",
        "number from which first weights, order of images and augmentation follow; other seeds give other "
        "students.",
    ),
    (
        "silhouette",
        r"\b[Ss]ilhouettes?\b",
        "how much nearer layers are to their own group than to the next; 1 is well apart, 0 is no groups.",
    ),
    (
        "stage",
        r"\b[Ss]tages?\b",
        "layers of equal resolution; convention takes the last one of each as a hint.",
    ),
    (
        "sub-block",
        r"\b[Ss]ub-blocks?\b",
        "a building block of the network, such as a residual block; its output can be a hint.",
    ),
    ("top-1, top-5", r"\b[Tt]op-[15]\b", "share of images whose class is the first guess, or among five."),
)


def glosses_for(page: Any) -> tuple[tuple[str, str], ...]:
    """The terms that occur in the texts of a record, with their explanations, in alphabetical order."""
    text = "\n".join(_texts(page))
    return tuple((term, meaning) for term, pattern, meaning in _GLOSSES if re.search(pattern, text))


def _texts(value: Any) -> Iterator[str]:
    """All strings in a record of records and tuples, but for the files of pictures."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            if field.name not in _NOT_READ:
                yield from _texts(getattr(value, field.name))
    elif isinstance(value, tuple):
        for part in value:
            yield from _texts(part)
