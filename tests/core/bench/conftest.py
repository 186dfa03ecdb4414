"""Small matrices for the matmul peak."""

from __future__ import annotations

import pytest

from core.bench import machine


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the matmul peak with small matrices."""
    monkeypatch.setattr(machine, "CPU_MATRIX_SIZE", 64)
