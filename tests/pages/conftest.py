"""Fixtures of the tests of pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.app_pages import simulate_demo_subject


@pytest.fixture
def empty_app(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_supervisor: None) -> Path:
    """The app without runs and data sets; queued runs are not started and the demo data is not made.

    Returns
    -------
    Path. The empty data root.
    """
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(data))
    simulate_demo_subject(monkeypatch)
    return data
