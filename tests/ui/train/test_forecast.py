"""The forecast of a training: what the network learns, as the run will decide it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError
from core.runs.store.engine_records import LOCAL
from core.training.plan import StepCost
from tests.support.balls import tiny, write_balls
from tests.support.nested_tumours import CLASSES, write_tumours
from ui.shared import cache
from ui.shared.network_inspector import NetworkInspector, step_cost
from ui.train.forecast import ESTIMATING, forecast, render, unoriented_subjects


@pytest.mark.slow
def test_outputs_are_regions_where_a_run_learns_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path))
    summary = cache.dataset_summary(str(write_tumours(tmp_path / "data")))
    questions: list[dict[str, Any]] = []
    monkeypatch.setattr(NetworkInspector, "ask", lambda inspector, question: questions.append(question))

    def channels(**values: Any) -> int:
        planned = forecast(tiny(path=str(tmp_path / "data"), **values), summary, "cpu")
        assert step_cost(planned) is None
        assert questions[-1]["classes"] == planned.classes
        return planned.classes

    assert (channels(targets="auto"), questions[-1]["overlapping"]) == (3, True)
    assert (channels(targets="labels"), questions[-1]["overlapping"]) == (len(CLASSES), False)
    assert (channels(targets="auto", loss="weighted_ce"), questions[-1]["overlapping"]) == (len(CLASSES), False)
    assert (channels(targets="auto", classes=CLASSES[2:]), questions[-1]["overlapping"]) == (2, True)
    with pytest.raises(ConfigError, match="expected labels for weighted_ce"):
        channels(targets="regions", loss="weighted_ce")


def test_voxel_size_is_that_of_the_subjects_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As training does, which never reads test subjects."""
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path))
    summary = cache.dataset_summary(str(write_balls(tmp_path / "data", 5)))
    assert summary.measured == tuple(f"ball_{n}" for n in range(5))
    coarse, fine = (3.0, 3.0, 3.0), (1.0, 1.0, 1.5)
    summary = replace(summary, spacings_mm=(coarse,) * 3 + (fine,) * 2, unoriented=("ball_0", "ball_4"))
    config = tiny(path=str(tmp_path / "data"), resample="median", folds=2)
    assert forecast(config, summary, "cpu").spacing_mm == coarse
    config = config.with_values({"test_subjects": ("ball_0", "ball_1", "ball_2")})
    planned = forecast(config, summary, "cpu")
    assert planned.spacing_mm == fine
    assert planned.data_bytes == 2 * 20 * 24 * 18 * 3
    assert unoriented_subjects(config, summary) == ["ball_4"]


@pytest.mark.parametrize("minutes", [0.0, 3.0])
def test_lines_are_as_long_while_the_cost_is_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float
) -> None:
    """The buttons below stay where they are when the estimate arrives."""
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path))
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(tmp_path / "runs"))
    summary = cache.dataset_summary(str(write_balls(tmp_path / "data", 5)))
    config = tiny(path=str(tmp_path / "data"), minutes=minutes, epochs=20)
    cost = StepCost(1_234_567, forward_gflop=1.0, training_gflop=3.0, step_bytes=10**8)
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("ui.train.forecast.facts_list", lambda rows: shown.append(dict(rows)))
    for known in (None, cost):
        monkeypatch.setattr("ui.train.forecast.step_cost", lambda *_, known=known: known)
        assert render(config, summary, LOCAL).can_start
    estimating, complete = shown
    assert list(estimating) == list(complete)
    assert {"Network", "Memory", "Time"} <= {name for name in estimating if ESTIMATING in estimating[name]}
    assert not any(ESTIMATING in text for text in complete.values())
    for name, text in estimating.items():
        assert abs(len(text) - len(complete[name])) <= 24, (text, complete[name])
