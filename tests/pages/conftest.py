"""Fixtures of the tests of pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.training.plan import StepCost
from tests.support.app_pages import simulate_demo_subject
from tests.support.once import made_once


@pytest.fixture(scope="session")
def network_answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what the child process says about networks."""
    return made_once(tmp_path_factory, "network-answers", lambda folder: None)


@pytest.fixture(autouse=True)
def shared_network_answers(network_answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network costs is worked out once and not in each test: pages wait for it."""
    monkeypatch.setattr("ui.shared.network_inspector.cache_root", lambda: network_answers)


@pytest.fixture
def known_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that do not look at the forecast: what a training step costs is known at once."""
    cost = StepCost(1_000_000, forward_gflop=1.0, training_gflop=3.0, step_bytes=10**8)
    monkeypatch.setattr("ui.train.forecast.step_cost", lambda *_: cost)


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
