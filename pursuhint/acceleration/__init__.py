"""Settings and rewrites that change how fast a network runs, and not what it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint.acceleration.channels_last import channels_last_gradient
    from pursuhint.acceleration.compiled_extractor import CompiledExtractor
    from pursuhint.acceleration.fuse_batchnorm import fuse_batchnorms
    from pursuhint.acceleration.malloc import set_up_memory
    from pursuhint.acceleration.options import Acceleration
    from pursuhint.acceleration.winograd import use_winograd

__getattr__, __dir__, __all__ = lazy_exports(__name__)
