"""The forecast of a training: what the network learns, as the run will decide it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError
from tests.support.balls import tiny
from tests.support.nested_tumours import CLASSES, write_tumours
from ui.shared import cache
from ui.shared.network_inspector import NetworkInspector, step_cost
from ui.train.forecast import forecast


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
