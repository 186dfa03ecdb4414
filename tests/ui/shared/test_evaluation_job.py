"""The background job that segments and scores subjects."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.runs.predictions import read_predictions
from tests.support.background_jobs import wait_for_job
from tests.support.balls import untrained_run, write_balls
from ui.shared import evaluation_job, jobs


@pytest.mark.slow
def test_evaluation_keeps_predictions_of_the_requested_subjects(checkpoints: Path, tmp_path: Path) -> None:
    data = write_balls(tmp_path / "data")
    checkpoint = checkpoints / untrained_run(checkpoints, "net", ("M0",)) / "last.safetensors"

    def observe() -> jobs.Job:
        kept = read_predictions(checkpoints, checkpoint, data)
        return evaluation_job.observe(checkpoint, data, {"ball_1", "ball_4"} <= kept.keys())

    assert observe().state == "none"
    evaluation_job.start(checkpoint, data, ["ball_1", "ball_4"])
    assert observe().state == "running"
    assert wait_for_job(observe).state == "done"
