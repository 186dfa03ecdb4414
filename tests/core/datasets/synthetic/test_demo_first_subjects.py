"""The first subjects of the demo data, for a training that does not wait for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config import TrainConfig
from core.datasets import open_dataset
from core.datasets.synthetic.demo import DEFAULT_SUBJECTS, ensure_demo, ensure_first_subjects, make_demo, read_marker
from core.events import Preparing
from core.training.run_data import RunData, RunInputs
from core.types import ProgressCallback
from tests.support.quick_demo import replace_generator


@pytest.fixture(autouse=True)
def quick_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_generator(monkeypatch)


@pytest.mark.slow
def test_first_subjects_are_those_of_the_whole_data_set_which_is_completed_later(tmp_path: Path) -> None:
    whole = make_demo(tmp_path / "whole", 3, workers=1)
    steps: list[tuple[int, int]] = []
    folder = ensure_first_subjects(tmp_path / "demo", 2, progress=lambda *step: steps.append(step), workers=1)
    assert steps == [(0, 2), (1, 2), (2, 2)]
    assert open_dataset(folder).labelled_ids == ("subject-1", "subject-2") and read_marker(folder) is None
    ensure_first_subjects(folder, 2, progress=lambda *step: steps.append(step), workers=1)
    assert steps[3:] == [(2, 2)], "those that exist are kept"
    ensure_demo(folder, 3, workers=1)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}
    ensure_first_subjects(folder, 7, progress=lambda *step: pytest.fail("the folder is finished"))


@pytest.mark.slow
def test_training_on_the_demo_data_makes_the_subjects_that_it_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ensure_first_subjects(tmp_path / "demo", 2, workers=1)
    asked: list[int] = []

    def ensure(path: Path, count: int, progress: ProgressCallback) -> Path:
        asked.append(count)
        progress(count, count)
        return folder

    monkeypatch.setattr("core.training.run_data.ensure_first_subjects", ensure)
    events: list[object] = []

    def training_subjects(**split: object) -> tuple[str, ...]:
        config = TrainConfig().with_values({"path": "demo", **split})
        return RunData.open(RunInputs(config, tmp_path, events.append, lambda: False, False), None).split.train

    assert len(training_subjects(subjects=2)) == 1
    training_subjects()
    training_subjects(subjects=2, val_subjects=("subject-2",))  # which may be any of them
    assert asked == [2, DEFAULT_SUBJECTS, DEFAULT_SUBJECTS]
    assert events[0] == Preparing("making synthetic demo subjects", 2, 2)
