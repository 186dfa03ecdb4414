"""The background job of the data doctor."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.datasets import DataOptions
from tests.support.background_jobs import wait_for_job
from ui.data import doctor_job
from ui.shared import jobs


@pytest.mark.long
@pytest.mark.slow
def test_doctor_reports_on_a_real_data_set_and_survives_a_restart(checkpoints: Path, test_data: Path) -> None:
    path = test_data / "Task04_Hippocampus"
    folder = doctor_job.report_folder(path)
    assert jobs.observe_report(folder).state == "none"
    doctor_job.start(path, folder)
    assert jobs.observe_report(folder).state == "running"
    assert wait_for_job(lambda: jobs.observe_report(folder)).state == "done"
    report = jobs.read_report(folder)
    assert report["ok"] and len(report["subjects"]) == 80
    assert all((folder / s["thumbnail"]).is_file() for s in report["subjects"])
    jobs._running.clear()  # as after a restart of the server
    assert jobs.observe_report(folder).state == "done"


@pytest.mark.slow
def test_discarded_report_is_made_again(checkpoints: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = doctor_job.report_folder(empty)
    for _ in range(2):
        assert jobs.observe_report(folder).state == "none"
        doctor_job.start(empty, folder)
        jobs.discard(folder)  # ignored while the job runs
        assert wait_for_job(lambda: jobs.observe_report(folder)).state == "done"
        jobs.discard(folder)


def test_report_on_an_empty_folder_is_not_ok(checkpoints: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = doctor_job.report_folder(empty)
    doctor_job.start(empty, folder)
    assert wait_for_job(lambda: jobs.observe_report(folder)).state == "done"
    report = jobs.read_report(folder)
    assert not report["ok"] and "empty" in report["findings"][0]["message"]


def test_report_folder_changes_with_a_file(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    file = tmp_path / "d" / "x.nii"
    file.write_bytes(b"1")
    before = doctor_job.report_folder(tmp_path / "d")
    assert doctor_job.report_folder(tmp_path / "d") == before
    file.write_bytes(b"22")
    assert doctor_job.report_folder(tmp_path / "d") != before


def test_options_of_reading_have_their_own_report_and_reach_the_doctor(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda folder, arguments: commands.append(arguments))
    options = DataOptions(ignore="no such", nan_is_zero=True)
    folder = doctor_job.report_folder(tmp_path, options)
    assert folder != doctor_job.report_folder(tmp_path)
    doctor_job.start(tmp_path, folder, options)
    doctor_job.start(tmp_path, doctor_job.report_folder(tmp_path))
    assert commands[0][2:4] == ["--ignore=no such", "--nan-is-zero=true"] and commands[1][2] == "--json"
    assert doctor_job.finished_report(tmp_path, options) is None
