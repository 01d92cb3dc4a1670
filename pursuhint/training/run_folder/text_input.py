"""What the student of a run on texts takes: the tokenizer of the run, and an example of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pursuhint._util.atomic_files import LARGEST_JSON
from pursuhint._util.input_files import read_text
from pursuhint._util.network_input import MASK
from pursuhint.data.tokenizer import FILE, most_tokens, read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pursuhint.training.run_folder.record import RunRecord

__all__: list[str] = []


def is_of_texts(record: RunRecord) -> bool:
    """Whether a run was trained on ``text:PATH``."""
    return record.environment["data"].get("tokens") is not None


def tokenizer_of(record: RunRecord) -> Tokenizer:
    """The tokenizer of a run on texts.

    Raises:
        PursuhintError: it is missing or damaged, or tokenizers is not installed.
    """
    return read_tokenizer(str(record.path / FILE))


def tokenizer_text(record: RunRecord) -> str:
    """The tokenizer of a run on texts, as it was saved.

    Raises:
        PursuhintError: it is missing.
    """
    return read_text(record.path / FILE, "tokenizer", largest=LARGEST_JSON)


def text_settings(record: RunRecord) -> dict[str, Any]:
    """How texts become the input of a run's student, as plain values."""
    tokenizer = tokenizer_of(record)
    return {
        "samples": "texts",
        "max_tokens": most_tokens(tokenizer),
        "vocab_size": tokenizer.get_vocab_size(),
        "inputs": ["input_ids", MASK],
    }


def example_of_tokens(record: RunRecord) -> dict[str, Tensor]:
    """Two texts of as many tokens as the student may get, the last token of the vocabulary among them."""
    settings = text_settings(record)
    last = settings["vocab_size"] - 1
    ids = torch.full((2, settings["max_tokens"]), last)
    return {"input_ids": ids, MASK: torch.ones_like(ids)}
