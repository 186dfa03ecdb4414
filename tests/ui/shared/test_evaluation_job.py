"""The background jobs that segment and score subjects: each subject is answered for alone."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from core.runs.predictions import read_predictions
from tests.support.background_jobs import poll, wait_for_job
from tests.support.balls import untrained_run, write_balls
from ui.shared import evaluation_job, jobs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "data")


@pytest.fixture
def checkpoint(checkpoints: Path) -> Path:
    return checkpoints / untrained_run(checkpoints, "net", ("M0",)) / "last.safetensors"


@pytest.mark.long
@pytest.mark.slow
def test_each_subject_is_answered_for_alone_and_later_requests_follow(
    checkpoints: Path, checkpoint: Path, data: Path
) -> None:
    def observe(*subjects: str) -> jobs.Job:
        return evaluation_job.observe(checkpoint, data, subjects)

    assert observe("ball_1", "ball_4").state == "none"
    evaluation_job.start(checkpoint, data, ["ball_1", "ball_4"])
    evaluation_job.start(checkpoint, data, ["ball_3", "ball_2"])  # another person, while the first job runs
    evaluation_job.start(checkpoint, data, ["ball_2"])  # a single case comes first
    assert evaluation_job.pending(checkpoint, data) == ["ball_1", "ball_4", "ball_2", "ball_3"]
    assert (observe("ball_1").state, observe("ball_5").state) == ("running", "none")
    assert observe("ball_3") == jobs.Job("running", message="ball_3, after ball_1, ball_4, ball_2")
    assert wait_for_job(lambda: observe("ball_1", "ball_4")).state == "done"
    assert wait_for_job(lambda: observe("ball_2", "ball_3")).state == "done"
    assert observe("ball_5").state == "none", "the jobs succeeded, and this subject was not requested"
    assert set(read_predictions(checkpoints, checkpoint, data)) == {"ball_1", "ball_2", "ball_3", "ball_4"}


def test_failure_concerns_only_what_was_asked_for_and_can_be_repeated(
    checkpoint: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    evaluation_job.start(checkpoint, data, ["ball_1"])
    job = wait_for_job(lambda: evaluation_job.observe(checkpoint, data, ["ball_1"]))
    assert job == jobs.Job("failed", message="exit status 1")
    assert evaluation_job.observe(checkpoint, data, ["ball_2"]).state == "none"
    assert evaluation_job.observe(checkpoint, data, ["ball_2", "ball_1"]).message == "ball_1: exit status 1"
    assert evaluation_job.pending(checkpoint, data) == []
    evaluation_job.start(checkpoint, data, ["ball_1"])
    poll(lambda: evaluation_job.pending(checkpoint, data), lambda left: not left)
