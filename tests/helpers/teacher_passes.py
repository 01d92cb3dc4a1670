"""Count how often a teacher runs."""

from __future__ import annotations

from typing import Any

import pytest

from pursuhint.distillation.teacher import TeacherRunner
from pursuhint.features.extractor import Features


def counted_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every batch that a teacher runs on from now on."""
    seen: list[int] = []
    run = TeacherRunner._run

    def counting(self: TeacherRunner, images: Any) -> Features:
        seen.append(len(images))
        return run(self, images)

    monkeypatch.setattr(TeacherRunner, "_run", counting)
    return seen
