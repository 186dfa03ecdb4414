"""Background jobs of the Learn page as real child processes."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from tests.support.background_jobs import wait_for_job
from tests.support.learn_data import demo_subject, small_model
from ui.learn import jobs as learn_jobs
from ui.learn import network_data
from ui.shared import jobs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_subject(tmp_path_factory)


@pytest.mark.long
@pytest.mark.slow
def test_feature_maps_are_computed_once_per_state_of_a_checkpoint(checkpoints: Path, folder: Path) -> None:
    model = small_model(checkpoints)
    images = [folder / f"subject-1-{m}.nii.gz" for m in ("T1", "T2")]
    first = learn_jobs.features_folder(model, images)
    assert learn_jobs.observe_features(first).state == "none"
    learn_jobs.start_features(model, images, [], first)
    assert wait_for_job(lambda: learn_jobs.observe_features(first)).state == "done"
    assert network_data.read_manifest(first)["sub_volume"]["size"] == [32, 32, 16]
    os.utime(model, (1, 1))
    second = learn_jobs.features_folder(model, images)
    assert second != first and second.parent == first.parent
    jobs._running.clear()  # as after a restart of the server
    assert learn_jobs.observe_features(first).state == "done"
    learn_jobs.start_features(model, images, [], second)
    assert not first.exists(), "maps of an older checkpoint are removed"
    assert wait_for_job(lambda: learn_jobs.observe_features(second)).state == "done"


@pytest.mark.long
@pytest.mark.slow
def test_feature_maps_of_a_damaged_checkpoint_fail_with_the_reason(checkpoints: Path, folder: Path) -> None:
    model = small_model(checkpoints)
    model.write_bytes(b"nothing")
    images = [folder / f"subject-1-{m}.nii.gz" for m in ("T1", "T2")]
    out = learn_jobs.features_folder(model, images)
    learn_jobs.start_features(model, images, [], out)
    job = wait_for_job(lambda: learn_jobs.observe_features(out))
    assert job.state == "failed" and "checkpoint" in job.message


@pytest.mark.long
@pytest.mark.slow
def test_sub_volumes_are_drawn_by_a_child_process(checkpoints: Path, folder: Path) -> None:
    options = ["--sub-volume", "64x64x64", "--foreground", "0.9", "--count", "20"]
    out = learn_jobs.sub_volumes_folder(folder / "subject-1-label.nii.gz", options)
    learn_jobs.start_sub_volumes(folder, "subject-1", options, out)
    assert wait_for_job(lambda: jobs.observe_report(out)).state == "done"
    report = jobs.read_report(out)
    assert len(report["draws"][0]["starts"]) == 20 and math.isclose(sum(report["share"]), 1)
    assert learn_jobs.sub_volumes_folder(folder / "subject-1-label.nii.gz", options[:-1]) != out
