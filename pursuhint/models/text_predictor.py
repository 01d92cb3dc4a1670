"""The likeliest classes of texts, by a network or an exported program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from pursuhint.data.tokenizer import most_tokens, tokens_of
from pursuhint.errors import PursuhintError
from pursuhint.models.predictor import check_top, likeliest_classes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["TextPrediction", "TextPredictor"]


@dataclass(frozen=True)
class TextPrediction:
    """The likeliest classes of a text, the likeliest first.

    Attributes:
        text: as it was given.
        labels: numbers of the classes, from 0.
        classes: their names.
        probabilities: softmax of the logits, over all classes; in [0, 1].
    """

    text: str
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class TextPredictor:
    """A classifier of texts.

    Attributes:
        name: what it is, for messages.
        logits: ``input_ids`` and ``attention_mask`` (N, tokens), int64, on the CPU -> logits (N, classes), on
            the CPU.
        tokenizer: of the training; it cuts and pads.
        class_names: in the order of the logits.
    """

    name: str
    logits: Callable[[Mapping[str, Tensor]], Tensor]
    tokenizer: Tokenizer
    class_names: tuple[str, ...]

    def to_dict(self) -> dict[str, int]:
        """How texts become the network's input, as plain values."""
        return {
            "max_tokens": most_tokens(self.tokenizer),
            "vocab_size": self.tokenizer.get_vocab_size(),
        }

    def line(self) -> str:
        """How texts become the network's input, in one line for people."""
        how = self.to_dict()
        return f"texts: at most {how['max_tokens']} tokens of a vocabulary of {how['vocab_size']:,}"

    def predict(
        self, texts: Sequence[str], *, top: int = 5, batch_size: int = 64
    ) -> tuple[TextPrediction, ...]:
        """Classify texts. What is behind the most tokens of the training is cut off.

        Args:
            texts: at least one character each.
            top: classes a text, at least 1; all if there are fewer.
            batch_size: texts a batch.

        Raises:
            PursuhintError: a text is empty, or the network returns another number of logits than there are
                classes.
        """
        check_top(top)
        if isinstance(texts, str) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise PursuhintError("texts must be a list of texts that are not empty")
        found: list[TextPrediction] = []
        for start in range(0, len(texts), batch_size):
            part = texts[start : start + batch_size]
            logits = self.logits(tokens_of(self.tokenizer, part))
            likeliest = likeliest_classes(logits, self.class_names, top, self.name)
            found += [TextPrediction(text, *classes) for text, classes in zip(part, likeliest)]
        return tuple(found)
