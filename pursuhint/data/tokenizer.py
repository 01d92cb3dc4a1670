"""Tokens of texts: a tokenizer that was saved, or pairs of bytes learned from the training texts."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pursuhint._util.input_files import read_text
from pursuhint._util.network_input import MASK
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__: list[str] = []

FILE = "tokenizer.json"
"""File of a run, and of a folder of ``save_pretrained``, that holds a tokenizer."""

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PADDING = ("[PAD]", "<pad>", "<|endoftext|>", "</s>")
_MOST_TOKENS = 512
_LARGEST_FILE = 1 << 28  # bytes


def make_tokenizer(
    texts: Sequence[str], *, saved: str | None, vocabulary: int, max_tokens: int | None
) -> Tokenizer:
    """The tokenizer of a data set, cut to a number of tokens a text.

    Args:
        texts: the training texts, from which the vocabulary is learned where none is saved.
        saved: a ``tokenizer.json``, a folder with one, or ``OWNER/NAME`` on the hub; None trains one, the
            same for the same texts and sizes.
        vocabulary: size of a vocabulary that is learned, at most.
        max_tokens: tokens a text at most; None for what a saved tokenizer says, at most 512, and for 64.

    Raises:
        PursuhintError: tokenizers is not installed, or there is no such tokenizer.
    """
    _check_installed()
    tokenizer = _trained(texts, vocabulary) if saved is None else _read(saved)
    truncation = tokenizer.truncation or {}
    longest = max_tokens or (truncation.get("max_length", _MOST_TOKENS) if saved is not None else 64)
    padding = tokenizer.padding or {}
    pad = padding.get("pad_token") or next(
        (token for token in _PADDING if tokenizer.token_to_id(token) is not None), None
    )
    tokenizer.enable_truncation(longest)
    number = 0 if pad is None else tokenizer.token_to_id(pad)
    tokenizer.enable_padding(pad_id=number, pad_token=pad or "[PAD]")  # to the longest text of all
    return tokenizer


def read_tokenizer(saved: str) -> Tokenizer:
    """A saved tokenizer as it is: of a run, it cuts texts to `most_tokens` and pads them to the longest.

    Args:
        saved: as for `make_tokenizer`.

    Raises:
        PursuhintError: tokenizers is not installed, or there is no such tokenizer.
    """
    _check_installed()
    return _read(saved)


def tokenizer_from(text: str, what: str) -> Tokenizer:
    """The tokenizer that the content of a ``tokenizer.json`` describes; ``what`` names it in messages.

    Raises:
        PursuhintError: tokenizers is not installed, or the text is of another kind.
    """
    _check_installed()
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises plain exceptions
        raise PursuhintError(f"cannot read {what}: {error}") from None


def most_tokens(tokenizer: Tokenizer) -> int:
    """Tokens that a text is cut to."""
    return int((tokenizer.truncation or {}).get("max_length", _MOST_TOKENS))


def _check_installed() -> None:
    if importlib.util.find_spec("tokenizers") is None:
        raise PursuhintError("texts need tokenizers: pip install 'pursuhint[hf]'")


def tokens_of(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` of texts, int64 of shape (texts, tokens)."""
    found = tokenizer.encode_batch(list(texts))
    return {
        "input_ids": torch.tensor([each.ids for each in found]),
        MASK: torch.tensor([each.attention_mask for each in found]),
    }


def _trained(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Pairs of bytes, in lower case and without accents, between [CLS] and [SEP].

    The trainer of word pieces numbers those within words by a hash map that differs from process to process.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(texts), trainer)
    ends = [(token, int(tokenizer.token_to_id(token) or 0)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def _lines(texts: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), 1000):
        yield list(texts[start : start + 1000])


def _read(saved: str) -> Tokenizer:
    place = Path(saved).expanduser()
    file = place / FILE if place.is_dir() else place
    if not file.is_file():
        if place.exists() or saved.startswith((".", "/", "~")) or "/" not in saved:
            raise PursuhintError(f"no tokenizer {file}; name a {FILE}, a folder with one, or OWNER/NAME")
        file = _of_hub(saved)
    return tokenizer_from(read_text(file, "tokenizer", largest=_LARGEST_FILE), f"the tokenizer {file}")


def _of_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    from pursuhint._util.hub import quiet_hub

    try:
        with quiet_hub():
            return Path(hf_hub_download(name, FILE))
    except Exception as error:  # the hub's client raises classes of its own
        reason = " ".join(str(error).split())[:160]
        raise PursuhintError(
            f"cannot fetch the tokenizer of {name} ({reason}); download its {FILE} where there is a network, "
            "and name the file"
        ) from error
