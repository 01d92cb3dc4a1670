"""``python -m pursuhint`` and ``accelerate launch -m pursuhint``."""

from __future__ import annotations

from pursuhint.cli.main import run

if __name__ == "__main__":
    run()
