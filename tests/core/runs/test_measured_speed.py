"""The forecast of a training is corrected by what the last runs on the same kind of device took."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from core import runs
from core.events import FORECAST_FACT
from core.runs.measured_speed import MAX_RUNS, SPREAD, duration_factors
from core.runs.store.index import open_index
from core.runs.store.metrics_file import MetricRow
from core.runs.store.state import write_state
from core.training_place import DurationFactors
from tests.support.run_folders import make_run


def run_with_forecast(root: Path, name: str, forecast: str, device: str = "cpu, 2 threads", **state: object) -> str:
    """A run whose training was estimated, and its id."""
    run_id = make_run(root, name, epochs=1)
    run = runs.get_run(root, run_id)
    facts = {"device": device, FORECAST_FACT: forecast}
    write_state(root / run_id, dataclasses.replace(run.state, facts=facts, **state))  # type: ignore[arg-type]
    return run_id


def test_runs_without_a_speed_do_not_correct_the_forecast(checkpoints: Path) -> None:
    make_run(checkpoints, "of an earlier version")
    run_with_forecast(checkpoints, "damaged", "fast")
    run_with_forecast(checkpoints, "without a report", "20 sub-volumes/s")
    assert duration_factors(checkpoints, "cpu") == DurationFactors(1.0, 1.0, 0)


def test_durations_of_the_last_runs_bound_the_next_one(checkpoints: Path) -> None:
    ended = run_with_forecast(checkpoints, "ended", "20 sub-volumes/s")
    rows = [MetricRow(0, 1, n, 1.0, "speed", value) for n, value in enumerate((4.0, 5.0, 90.0))]
    open_index(checkpoints).add_metrics(ended, rows)
    run_with_forecast(
        checkpoints, "just measured", "20 sub-volumes/s", sub_volumes_per_s=10.0, device="2 x cpu, 1 threads"
    )
    run_with_forecast(checkpoints, "on a GPU", "900 sub-volumes/s", device="NVIDIA H100", sub_volumes_per_s=300.0)
    run_with_forecast(checkpoints, "elsewhere", "900 sub-volumes/s", host="another-host", sub_volumes_per_s=1.0)
    run_with_forecast(checkpoints, "on a Mac", "900 sub-volumes/s", device="mps, Apple GPU", sub_volumes_per_s=100.0)
    on_cpu = duration_factors(checkpoints, "cpu")
    assert (on_cpu.shortest, on_cpu.longest, on_cpu.runs) == (pytest.approx(2 / SPREAD), pytest.approx(4 * SPREAD), 2)
    assert on_cpu.expected == pytest.approx(8**0.5)
    assert duration_factors(checkpoints, "cuda").expected == pytest.approx(3)
    assert duration_factors(checkpoints, "mps").expected == pytest.approx(9)
    for n in range(MAX_RUNS):
        run_with_forecast(checkpoints, f"newer {n}", "20 sub-volumes/s", sub_volumes_per_s=20.0)
    newest = duration_factors(checkpoints, "cpu")
    assert (newest.shortest, newest.longest, newest.runs) == (
        pytest.approx(1 / SPREAD),
        pytest.approx(SPREAD),
        MAX_RUNS,
    )
