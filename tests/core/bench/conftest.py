"""Matrices small enough for a test."""

from __future__ import annotations

import pytest

from core.bench import machine


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak of matrix products is measured with small ones."""
    monkeypatch.setattr(machine, "CPU_SIZE", 64)
