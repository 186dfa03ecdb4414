"""Background jobs that make the maps of a kept prediction: started once, a few at a time, repeated after a failure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import VolumeError
from core.runs.predictions import Prediction
from ui.shared import jobs, maps_job
from ui.shared.jobs import Job


class FakeJobs:
    """Jobs that run until they are stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[Path, Job] = {}
        self.commands: list[list[str]] = []
        monkeypatch.setattr(maps_job, "_started", set())
        monkeypatch.setattr(jobs, "observe", lambda folder, complete: self.states.get(folder, Job("none")))
        monkeypatch.setattr(jobs, "is_running", lambda folder: self.states.get(folder, Job("none")).state == "running")
        monkeypatch.setattr(jobs, "start", self.start)
        monkeypatch.setattr(jobs, "discard", lambda folder: self.states.pop(folder))

    def start(self, folder: Path, arguments: list[str]) -> None:
        self.states[folder] = Job("running")
        self.commands.append(list(arguments))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, checkpoints: Path) -> FakeJobs:
    return FakeJobs(monkeypatch)


def prediction(folder: Path, subject: str) -> Prediction:
    (folder / f"{subject}.json").write_text(json.dumps({"made_at": 1.5}))
    return Prediction(subject, folder / f"{subject}.nii.gz", None, 1, 1, "", 1.5)


def advance(tmp_path: Path, one: Prediction) -> Job:
    return maps_job.advance(tmp_path / "model.safetensors", tmp_path / "data", one)


def test_maps_are_made_once_and_a_few_at_a_time(tmp_path: Path, fake: FakeJobs) -> None:
    first, *others = (prediction(tmp_path, f"s.{n}") for n in range(maps_job.MAX_AT_ONCE + 1))
    assert advance(tmp_path, first).state == "running" and advance(tmp_path, first).state == "running"
    for other in others:
        assert advance(tmp_path, other).state == "running"
    assert [command[0] for command in fake.commands] == ["maps"] * maps_job.MAX_AT_ONCE
    assert "--subject=s.0" in fake.commands[0]
    fake.states[next(iter(fake.states))] = Job("none")  # it has ended
    advance(tmp_path, others[-1])
    assert "--subject=s.2" in fake.commands[-1] and len(fake.commands) == maps_job.MAX_AT_ONCE + 1
    (tmp_path / "maps" / "s.0").mkdir(parents=True)
    kept = {"version": 1, "made_at": 1.5, "passes": 1, "changed_voxels": 0}
    (tmp_path / "maps" / "s.0" / "maps.json").write_text(json.dumps(kept))
    assert advance(tmp_path, first).state == "done"


def test_failure_is_told_once_and_the_next_request_tries_again(tmp_path: Path, fake: FakeJobs) -> None:
    one = prediction(tmp_path, "a")
    advance(tmp_path, one)
    fake.states[next(iter(fake.states))] = Job("failed", message="the disk is full")
    with pytest.raises(VolumeError, match="the disk is full"):
        advance(tmp_path, one)
    assert advance(tmp_path, one).state == "running" and len(fake.commands) == 2


def test_page_of_a_replaced_prediction_starts_nothing(tmp_path: Path, fake: FakeJobs) -> None:
    one = replace(prediction(tmp_path, "a"), made_at=0.5)
    with pytest.raises(VolumeError, match="segmented again since; load the page again"):
        advance(tmp_path, one)
    assert not fake.commands
