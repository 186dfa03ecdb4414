"""Background jobs that make the maps of a kept prediction: started once, a few at a time, repeated after a failure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import VolumeError
from core.inference.stage_maps import StageRequest
from core.runs.predictions import Prediction
from ui.shared import jobs, maps_job
from ui.shared.jobs import Job
from ui.shared.maps_job import StageJob


class FakeJobs:
    """Jobs that run until they are stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[Path, Job] = {}
        self.commands: list[list[str]] = []
        monkeypatch.setattr(maps_job, "_started", set())
        monkeypatch.setattr(jobs, "observe", self.observe)
        monkeypatch.setattr(jobs, "is_running", lambda folder: self.states.get(folder, Job("none")).state == "running")
        monkeypatch.setattr(jobs, "start", self.start)
        monkeypatch.setattr(jobs, "cancel", lambda folder: self.states.pop(folder, None))
        monkeypatch.setattr(jobs, "discard", lambda folder: self.states.pop(folder))

    def observe(self, folder: Path, complete: bool) -> Job:
        return self.states.get(folder, Job("done" if complete else "none"))

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


def test_feature_maps_of_a_stage_begin_when_they_are_started_and_are_stopped(tmp_path: Path, fake: FakeJobs) -> None:
    one, other = (prediction(tmp_path, name) for name in "ab")
    job, strongest = StageJob(tmp_path / "model", tmp_path, one, "encoder-1"), StageRequest("encoder-1")
    assert job.observe(strongest).state == "none" and not fake.commands
    job.start(StageRequest("encoder-1", (7,), strongest=False))
    job.start(strongest)
    assert len(fake.commands) == 1 and {"--stage=encoder-1", "--channel=7", "--subject=a"} < set(fake.commands[0])
    assert job.observe(strongest).state == "running"
    StageJob(tmp_path / "model", tmp_path, one, "bottleneck").start(StageRequest("bottleneck"))
    with pytest.raises(VolumeError, match="2 maps are being computed already; try again"):
        StageJob(tmp_path / "model", tmp_path, other, "encoder-1").start(strongest)
    job.stop()
    assert job.observe(strongest).state == "none" and job.kept is None
    StageJob(tmp_path / "model", tmp_path, other, "encoder-1").start(strongest)
    folder = tmp_path / "maps" / "a" / "features" / "encoder-1"
    folder.mkdir(parents=True)
    kept = {"version": 1, "made_at": 1.5, "stage": "encoder-1", "channel_count": 8, "voxel_mm": [2, 2, 2]}
    (folder / "maps.json").write_text(json.dumps({**kept, "strongest": True, "maps": []}))
    assert job.observe(strongest).state == "done" and len(fake.commands) == 3
    with pytest.raises(VolumeError, match="segmented again since; load the page again"):
        StageJob(tmp_path / "model", tmp_path, replace(one, made_at=0.5), "encoder-1").start(strongest)
