"""How representations are transferred: the choices of `pursuhint.transfer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pursuhint._util.registry import lookup
from pursuhint.errors import PursuhintError

__all__ = ["CLASSIFIERS", "TransferSettings"]

CLASSIFIERS: Mapping[str, str] = MappingProxyType(
    {
        "sgd": "a linear layer trained as for table 3 of ICD",
        "logistic": "scikit-learn's logistic regression on standardized features",
    }
)
"""Linear classifiers by name."""


@dataclass(frozen=True)
class TransferSettings:
    """Choices of `pursuhint.transfer`; the defaults are the protocol of ICD's table 3 without augmentation.

    Attributes:
        classifiers: keys of `CLASSIFIERS`.
        epochs: of the classifier ``sgd``.
        lr: its constant learning rate. Default: 0.05, and 0.01 on MobileNetV2 and the ShuffleNets, as the
            authors' code has it.
        augment: let ``sgd`` see the target's usual crops and flips, as in the authors' code. The network then
            runs in every epoch.
        drift: keep the network in training mode while ``sgd`` learns, as the authors' code does: batch norms
            use the batch's statistics, their running statistics move to the target's images, and dropout is
            active. The network then runs in every epoch.
        seed: of the linear layer's first weights, order and augmentation.
        weights: ``"last"`` or ``"best"`` epoch of the runs.
        trust_code: import and call a ``package.module:factory`` that a run names as its student.
        data_root: folder that holds the targets; see `pursuhint.data.load_dataset`.
        download: download targets that are missing.
        val_fraction: share of the training images that a target in a folder without images for evaluation
            is tested on, in [0, 1).
        workers: processes that decode files.
    """

    classifiers: tuple[str, ...] = tuple(CLASSIFIERS)
    epochs: int = 100
    lr: float | None = None
    augment: bool = False
    drift: bool = False
    seed: int = 0
    weights: str = "last"
    trust_code: bool = False
    data_root: Path | None = None
    download: bool = False
    val_fraction: float = 0.0
    workers: int = 0

    def plain(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **asdict(self),
            "classifiers": list(self.classifiers),
            "data_root": None if self.data_root is None else str(self.data_root),
        }

    def __post_init__(self) -> None:
        if not self.classifiers:
            raise PursuhintError(f"no classifier is named; there are {', '.join(CLASSIFIERS)}")
        for name in self.classifiers:
            lookup("classifier", CLASSIFIERS, name)
        if len(set(self.classifiers)) != len(self.classifiers):
            raise PursuhintError(f"each classifier can be named once, got {', '.join(self.classifiers)}")
        if self.epochs < 1:
            raise PursuhintError(f"the classifier needs at least 1 epoch, got {self.epochs}")
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise PursuhintError(f"the classifier's learning rate must be above 0, got {self.lr:g}")
