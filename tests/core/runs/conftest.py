"""What the tests of runs share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def default_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index lies beside the runs, whatever the machine is set to."""
    monkeypatch.delenv("SEGMENTARIUM_DATABASE", raising=False)
