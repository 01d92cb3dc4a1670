"""Texts with labels, as tokens for networks such as BERT."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pursuhint._util.network_input import MASK, tensors_of
from pursuhint.data.input_data import InputData, InputSplit
from pursuhint.data.splits import hold_out
from pursuhint.data.text_files import LabelledTexts, read_texts
from pursuhint.data.tokenizer import make_tokenizer, tokens_of
from pursuhint.errors import PursuhintError

__all__ = ["TextData", "load_text"]


@dataclass(frozen=True, eq=False, repr=False)
class TextData(InputData):
    """Texts as ``input_ids`` and ``attention_mask``, padded to the longest of them, with labels.

    Attributes:
        vocab_size: numbers of tokens of the tokenizer.
        tokenizer: as the text of a ``tokenizer.json``; runs keep it.
    """

    vocab_size: int = 0
    tokenizer: str = ""

    @property
    def tokens(self) -> int:
        """Tokens of every text, with padding."""
        return tensors_of(self.train.inputs)[0].shape[1]


def text_example(tokens: int, count: int = 2) -> dict[str, Tensor]:
    """Texts of a number of tokens, for looking at networks."""
    ids = torch.zeros(count, tokens, dtype=torch.int64)
    return {"input_ids": ids, MASK: torch.ones_like(ids)}


def load_text(
    path: Path | str,
    *,
    tokenizer: str | None = None,
    vocabulary: int = 8_000,
    max_tokens: int | None = None,
    val_fraction: float = 0.0,
    seed: int = 0,
) -> TextData:
    """Load texts with labels.

    ``path`` is a CSV, TSV or JSON-lines file with the columns ``label`` and ``text``, or a folder with
    ``train`` and ``test`` or ``val``: files of this kind, or folders with one folder a class and one ``.txt``
    file a text. With both, ``val`` becomes the validation split; with one of them, that is the test split.
    Where there is a training split alone, ``val_fraction`` of it become the test split. Classes are the
    labels of the training texts, sorted (whole numbers by value).

    Args:
        path: the file or folder.
        tokenizer: a ``tokenizer.json``, a folder with one (a run, ``save_pretrained``), or ``OWNER/NAME`` on
            the hub. Default: pairs of bytes in lower case, learned from the training texts.
        vocabulary: tokens of a tokenizer that is trained, at most; at least 300, since all bytes are among
            them.
        max_tokens: tokens of a text at most; what is longer is cut off. Default: as a saved tokenizer says,
            at most 512; else 64.
        val_fraction: share of the training texts to hold out, in [0, 1): as ``val``, or as ``test`` if there
            is no other test split.
        seed: of the held-out samples.

    Raises:
        PursuhintError: files are missing, damaged or without labels, a class of another split has no training
            texts, the texts are of one class, or there is no such tokenizer.
    """
    texts = read_texts(Path(path).expanduser())
    classes = _classes(texts["train"])
    if len(classes) < 2:
        raise PursuhintError(f"{path}: all training texts are of the class {classes[0]}; two are needed")
    labels = {role: _labels(samples, classes, f"{path}, {role} split") for role, samples in texts.items()}
    if len(texts) == 1:
        if not val_fraction:
            raise PursuhintError(
                f"{path} has no texts for evaluation; --val-fraction 0.2 (val_fraction=0.2) would hold "
                "some out"
            )
        parts = hold_out(labels["train"], round(val_fraction * len(labels["train"])), seed=seed)
        whole, numbers = texts["train"], labels["train"]
        for role, positions in zip(("train", "test"), parts):
            texts[role], labels[role] = (
                [whole[position] for position in positions.tolist()],
                numbers[positions],
            )
        val_fraction = 0.0
    elif "test" not in texts:
        texts["test"], labels["test"] = texts.pop("val"), labels.pop("val")
    words = {role: [text for _, text in samples] for role, samples in texts.items()}
    made = make_tokenizer(words["train"], saved=tokenizer, vocabulary=vocabulary, max_tokens=max_tokens)
    everything = tokens_of(made, [text for role in words for text in words[role]])
    splits, start = {}, 0
    for role, numbers in labels.items():
        end = start + len(numbers)
        inputs = {name: values[start:end] for name, values in everything.items()}
        splits[role], start = InputSplit.whole(inputs, numbers, f"{path}, {role} split"), end
    longest = everything["input_ids"].shape[1]
    source = "trained on the training texts" if tokenizer is None else f"of {tokenizer}"
    data = TextData(
        name=f"text:{path}",
        train=splits["train"],
        test=splits["test"],
        class_names=classes,
        val=None if "val" not in splits else _behind(splits["val"], len(splits["train"])),
        notes=(f"at most {longest} tokens of a vocabulary of {made.get_vocab_size():,}, {source}",),
        vocab_size=made.get_vocab_size(),
        tokenizer=made.to_str(),
    )
    if not val_fraction:
        return data
    if data.val is not None:
        raise PursuhintError(
            f"{path} has a validation split already; leave --val-fraction (val_fraction) out"
        )
    kept, held_out = hold_out(data.train.labels, round(val_fraction * len(data.train)), seed=seed)
    return replace(data, train=data.train.select(kept), val=data.train.select(held_out))


def _behind(split: InputSplit, count: int) -> InputSplit:
    """The split with indices that follow those of the training split: an index stands for one sample."""
    return InputSplit(split.inputs, split.labels, split.indices + count)


def _classes(samples: LabelledTexts) -> tuple[str, ...]:
    found = {label for label, _ in samples}
    return tuple(sorted(found, key=int) if all(map(str.isdecimal, found)) else sorted(found))


def _labels(samples: LabelledTexts, classes: tuple[str, ...], where: str) -> Tensor:
    number = {name: place for place, name in enumerate(classes)}
    strange = next((label for label, _ in samples if label not in number), None)
    if strange is not None:
        raise PursuhintError(f"{where}: no training text has the label {strange[:40]!r}")
    return torch.tensor([number[label] for label, _ in samples])
