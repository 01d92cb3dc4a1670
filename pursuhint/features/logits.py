"""Take the logits out of what a network returns: a tensor, a tuple, a mapping or an object of a library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pursuhint._util.network_input import MASK, NetworkInput, call_network, few_samples
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import all_tensors, index_of_logits, trace_calls


class LogitsReader:
    """Run a network and read its logits, whatever kind of output it has.

    A tensor is the logits; so is the entry or attribute ``logits`` of an output. Of several tensors without
    such a name, the logits are those that the classifier gives, the last linear layer: the network is run
    once more on one sample, in evaluation mode, to see which they are. In ``(features, logits)`` the features
    are not taken for logits, not even if they are as wide as the classes.

    Args:
        network: any classification network; not changed.

    Example:
        >>> import torch
        >>> class Network(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.hidden, self.classifier = nn.Linear(6, 3), nn.Linear(3, 3)
        ...     def forward(self, images):
        ...         features = self.hidden(images)
        ...         return features, self.classifier(features)
        >>> network, images = Network(), torch.ones(2, 6)
        >>> torch.equal(LogitsReader(network)(images), network(images)[1])
        True
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._index: int | None = None
        self._among = 0
        self._shape: tuple[int, ...] = ()

    def __call__(self, batch: NetworkInput) -> Tensor:
        """The logits of a batch, (N, classes).

        Args:
            batch: what the network takes; see `call_network`.

        Raises:
            PursuhintError: the network returns no tensor.
        """
        return self.read(call_network(self.network, batch), batch)

    def read(self, output: Any, batch: NetworkInput) -> Tensor:
        """The logits in an output that the network gave for a batch.

        Raises:
            PursuhintError: there is no tensor in it.
        """
        if self._index is None and self._is_ambiguous(output):
            self.prepare(batch)
        return self.select(output)

    def prepare(self, batch: NetworkInput) -> None:
        """Find out which tensor of the output is the logits, for `select`, by a run on the first sample."""
        trace = trace_calls(self.network, few_samples(batch))
        self._index, self._among = index_of_logits(trace), len(trace.outputs)
        self._shape = tuple(trace.outputs[self._index].shape[1:])

    def select(self, output: Any) -> Tensor:
        """The logits in an output. Of several tensors, those that `prepare` found; else the first.

        Raises:
            PursuhintError: there is no tensor in it.
        """
        found = all_tensors(output)
        if not found:
            raise PursuhintError(f"{type(self.network).__name__} returned no tensor; expected logits")
        if self._index is None or len(found) == 1 or _named_logits(output) is not None:
            return found[0].flatten(1)
        if len(found) == self._among:
            return found[self._index].flatten(1)
        # In training some networks return further outputs (auxiliary classifiers) behind the main one.
        alike = (values for values in found if tuple(values.shape[1:]) == self._shape)
        return next(alike, found[0]).flatten(1)

    @staticmethod
    def _is_ambiguous(output: Any) -> bool:
        return _named_logits(output) is None and len(all_tensors(output)) > 1


class _ReturnsLogits(nn.Module):
    """A network that returns its logits alone, for programs that expect one tensor.

    Args:
        network: the network inside.
        batch: one that it can run on, to find out which of its outputs are the logits.
    """

    def __init__(self, network: nn.Module, batch: NetworkInput) -> None:
        super().__init__()
        self.network = network
        self._reader = LogitsReader(network)
        self._reader.prepare(batch)


class LogitsOnly(_ReturnsLogits):
    """A network of images that returns its logits alone."""

    def forward(self, images: Tensor) -> Tensor:
        """The logits, (N, classes)."""
        return self._reader.select(self.network(images))


class TextLogits(_ReturnsLogits):
    """A network of texts that takes ``input_ids`` and ``attention_mask`` by position."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The logits, (N, classes), of numbers of tokens and their mask, both (N, tokens)."""
        return self._reader.select(self.network(**{"input_ids": input_ids, MASK: attention_mask}))


def _named_logits(output: Any) -> Tensor | None:
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else None
