"""PursuHint: which layers of a trained network should teach, and does it matter?"""

from __future__ import annotations

__version__ = "0.1.0"
