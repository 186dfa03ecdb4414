"""Work in child processes: progress, results that stay, failures that say why."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.runs.predictions import read_predictions
from tests.support.balls import untrained_run, write_balls
from ui.data import doctor_job
from ui.shared import demo_jobs, evaluation_job, jobs


def wait(observe: Callable[[], jobs.Job], seconds: float = 120) -> jobs.Job:
    end = time.monotonic() + seconds
    while (job := observe()).state == "running" and time.monotonic() < end:
        time.sleep(0.05)
    return job


def test_the_doctor_reports_on_a_real_data_set(checkpoints: Path, test_data: Path) -> None:
    path = test_data / "Task04_Hippocampus"
    folder = doctor_job.report_folder(path)
    assert doctor_job.observe(folder).state == "none"
    doctor_job.start(path, folder)
    assert doctor_job.observe(folder).state == "running"
    assert wait(lambda: doctor_job.observe(folder)).state == "done"
    report = doctor_job.report(folder)
    assert report["ok"] and len(report["subjects"]) == 80
    assert all((folder / s["thumbnail"]).is_file() for s in report["subjects"])
    jobs._running.clear()  # as after a restart of the server
    assert doctor_job.observe(folder).state == "done"


def test_a_forgotten_report_is_made_again(checkpoints: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = doctor_job.report_folder(empty)
    for _ in range(2):
        assert doctor_job.observe(folder).state == "none"
        doctor_job.start(empty, folder)
        jobs.discard(folder)  # while it works: nothing happens
        assert wait(lambda: doctor_job.observe(folder)).state == "done"
        jobs.discard(folder)


def test_a_report_on_a_folder_that_is_no_data_set_says_so(checkpoints: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = doctor_job.report_folder(empty)
    doctor_job.start(empty, folder)
    assert wait(lambda: doctor_job.observe(folder)).state == "done"
    report = doctor_job.report(folder)
    assert not report["ok"] and "empty" in report["findings"][0]["message"]


def test_a_child_that_dies_is_a_failure_with_its_last_words(checkpoints: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    jobs.start(folder, ["check"])
    job = wait(lambda: jobs.observe(folder, False))
    assert job.state == "failed" and "DATA" in job.message


def test_a_child_that_is_killed_says_by_what(checkpoints: Path, tmp_path: Path, test_data: Path) -> None:
    folder = tmp_path / "job"
    jobs.start(folder, ["check", str(test_data / "Task04_Hippocampus")])
    jobs._running[folder].kill()
    job = wait(lambda: jobs.observe(folder, False))
    assert (job.state, job.message) == ("failed", "the process was ended by signal 9; most likely the memory ran out")


def test_a_changed_file_needs_a_new_report(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    file = tmp_path / "d" / "x.nii"
    file.write_bytes(b"1")
    before = doctor_job.report_folder(tmp_path / "d")
    assert doctor_job.report_folder(tmp_path / "d") == before
    file.write_bytes(b"22")
    assert doctor_job.report_folder(tmp_path / "d") != before


@pytest.mark.slow
def test_the_demo_data_is_made_with_progress(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.datasets.synthetic.demo import read_marker
    from core.paths import demo_folder

    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(demo_jobs, "DEMO_SUBJECTS", 2)
    demo_jobs.start_demo()
    job = demo_jobs.observe_demo(False)
    assert (job.state, job.total) == ("running", 2)
    job = wait(lambda: demo_jobs.observe_demo(read_marker(demo_folder()) is not None))
    assert job.state == "done" and read_marker(demo_folder()) is not None


@pytest.mark.slow
def test_one_demo_subject_is_made_with_progress(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.paths import demo_folder

    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    assert demo_jobs.observe_demo_subject("subject-2").state == "none"
    demo_jobs.start_demo_subject("subject-2")
    assert demo_jobs.observe_demo_subject("subject-2").state == "running"
    assert wait(lambda: demo_jobs.observe_demo_subject("subject-2")).state == "done"
    assert len(list(demo_folder().glob("subject-*"))) == 6


def test_subjects_are_segmented_and_kept(checkpoints: Path, tmp_path: Path) -> None:
    data = write_balls(tmp_path / "data")
    checkpoint = checkpoints / untrained_run(checkpoints, "net", ("M0",)) / "last.safetensors"

    def observe() -> jobs.Job:
        kept = read_predictions(checkpoints, checkpoint, data)
        return evaluation_job.observe(checkpoint, data, {"ball_1", "ball_4"} <= kept.keys())

    assert observe().state == "none"
    evaluation_job.start(checkpoint, data, ["ball_1", "ball_4"])
    assert observe().state == "running"
    assert wait(observe).state == "done"
    evaluation_job.start(checkpoint, data, ["nobody"])
    job = wait(lambda: evaluation_job.observe(checkpoint, data, False))
    assert job.state == "failed" and "got 'nobody'" in job.message


def test_a_demo_subject_that_cannot_be_made_says_why(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "demo").mkdir(parents=True)
    (tmp_path / "data" / "demo" / "mine.txt").write_text("1")
    demo_jobs.start_demo_subject("subject-1")
    job = wait(lambda: demo_jobs.observe_demo_subject("subject-1"))
    assert job.state == "failed" and "expected an empty or new folder" in job.message
    demo_jobs.start_demo_subject("../../out")  # a description may hold anything
    assert wait(lambda: demo_jobs.observe_demo_subject("../../out")).state == "failed"
    assert sorted(p.name for p in checkpoints.iterdir()) == [".cache"]


def test_cancelling_ends_a_child_and_nothing_else(checkpoints: Path, tmp_path: Path, test_data: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        jobs.start(folder, ["check", str(test_data / "Task04_Hippocampus")])
    process = jobs._running[folders[0]]
    jobs.cancel(folders[0])
    assert process.poll() is not None and not jobs.is_running(folders[0]) and jobs.is_running(folders[1])
    jobs.cancel(folders[0])
    jobs.cancel(folders[1])
