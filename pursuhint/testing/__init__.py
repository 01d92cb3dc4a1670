"""Checks for what others add to this package; they need no test framework.

`check_loss` runs the contract that every loss of `pursuhint.losses` keeps on a loss of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint.testing.loss_contract import check_loss

__getattr__, __dir__, __all__ = lazy_exports(__name__)
