"""Background jobs: progress, results on disk, reasons of failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.runs.predictions import read_predictions
from tests.support.background_jobs import wait_for_job
from tests.support.balls import untrained_run, write_balls
from ui.data import doctor_job
from ui.shared import demo_jobs, evaluation_job, jobs


def test_doctor_reports_on_a_real_data_set_and_survives_a_restart(checkpoints: Path, test_data: Path) -> None:
    path = test_data / "Task04_Hippocampus"
    folder = doctor_job.report_folder(path)
    assert doctor_job.observe(folder).state == "none"
    doctor_job.start(path, folder)
    assert doctor_job.observe(folder).state == "running"
    assert wait_for_job(lambda: doctor_job.observe(folder)).state == "done"
    report = doctor_job.report(folder)
    assert report["ok"] and len(report["subjects"]) == 80
    assert all((folder / s["thumbnail"]).is_file() for s in report["subjects"])
    jobs._running.clear()  # as after a restart of the server
    assert doctor_job.observe(folder).state == "done"


def test_discarded_report_is_made_again(checkpoints: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = doctor_job.report_folder(empty)
    for _ in range(2):
        assert doctor_job.observe(folder).state == "none"
        doctor_job.start(empty, folder)
        jobs.discard(folder)  # ignored while the job runs
        assert wait_for_job(lambda: doctor_job.observe(folder)).state == "done"
        jobs.discard(folder)


def test_report_on_an_empty_folder_is_not_ok(checkpoints: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = doctor_job.report_folder(empty)
    doctor_job.start(empty, folder)
    assert wait_for_job(lambda: doctor_job.observe(folder)).state == "done"
    report = doctor_job.report(folder)
    assert not report["ok"] and "empty" in report["findings"][0]["message"]


def test_failed_job_has_the_last_line_of_its_output_as_message(checkpoints: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    jobs.start(folder, ["check"])
    job = wait_for_job(lambda: jobs.observe(folder, False))
    assert job.state == "failed" and "DATA" in job.message


def test_killed_job_names_the_signal(checkpoints: Path, tmp_path: Path, test_data: Path) -> None:
    folder = tmp_path / "job"
    jobs.start(folder, ["check", str(test_data / "Task04_Hippocampus")])
    jobs._running[folder].kill()
    job = wait_for_job(lambda: jobs.observe(folder, False))
    assert (job.state, job.message) == ("failed", "the process was ended by signal 9; most likely the memory ran out")


def test_report_folder_changes_with_a_file(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    file = tmp_path / "d" / "x.nii"
    file.write_bytes(b"1")
    before = doctor_job.report_folder(tmp_path / "d")
    assert doctor_job.report_folder(tmp_path / "d") == before
    file.write_bytes(b"22")
    assert doctor_job.report_folder(tmp_path / "d") != before


@pytest.mark.slow  # makes a subject of full size
def test_demo_data_is_made_subject_by_subject(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.datasets.synthetic.demo import read_marker
    from core.paths import demo_folder

    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(demo_jobs, "DEMO_SUBJECTS", 1)
    assert demo_jobs.observe_demo_subject("subject-1").state == "none"
    demo_jobs.start_demo_subject("subject-1")
    assert demo_jobs.observe_demo_subject("subject-1").state == "running"
    assert wait_for_job(lambda: demo_jobs.observe_demo_subject("subject-1")).state == "done"
    assert len(list(demo_folder().glob("subject-*"))) == 6 and read_marker(demo_folder()) is None
    demo_jobs.start_demo()  # keeps the subject
    job = demo_jobs.observe_demo(False)
    assert (job.state, job.done, job.total) == ("running", 1, 1)
    assert wait_for_job(lambda: demo_jobs.observe_demo(read_marker(demo_folder()) is not None)).state == "done"


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


def test_demo_subject_fails_in_a_foreign_folder_and_for_a_malicious_name(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "demo").mkdir(parents=True)
    (tmp_path / "data" / "demo" / "mine.txt").write_text("1")
    demo_jobs.start_demo_subject("subject-1")
    job = wait_for_job(lambda: demo_jobs.observe_demo_subject("subject-1"))
    assert job.state == "failed" and "expected an empty or new folder" in job.message
    demo_jobs.start_demo_subject("../../out")  # the name comes from a file
    assert wait_for_job(lambda: demo_jobs.observe_demo_subject("../../out")).state == "failed"
    assert sorted(p.name for p in checkpoints.iterdir()) == [".cache"]


def test_cancel_ends_only_its_own_job(checkpoints: Path, tmp_path: Path, test_data: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        jobs.start(folder, ["check", str(test_data / "Task04_Hippocampus")])
    process = jobs._running[folders[0]]
    jobs.cancel(folders[0])
    assert process.poll() is not None and not jobs.is_running(folders[0]) and jobs.is_running(folders[1])
    jobs.cancel(folders[0])
    jobs.cancel(folders[1])
