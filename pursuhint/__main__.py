"""``python -m pursuhint`` and ``accelerate launch -m pursuhint``."""

from __future__ import annotations

import contextlib
import os
import sys

# ``python -m`` puts the current folder first on the path, where files of a received folder would stand in for
# libraries. PYTHONPATH may still name the folder.
with contextlib.suppress(OSError):  # a working folder that was deleted holds no files
    if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
        del sys.path[0]

from pursuhint.cli.main import run

if __name__ == "__main__":
    run()
