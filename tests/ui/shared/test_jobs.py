"""Background jobs: reasons of failures, cancelling."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from core.compute.priority import JOB_NICENESS, MAX_NICENESS
from core.errors import RunError
from core.runs.store.process import process_identity
from core.runs.store.state import read_state, write_state
from tests.support.background_jobs import wait_for_job
from tests.support.run_folders import make_run
from ui.shared import jobs


@pytest.mark.slow
def test_failed_job_has_the_last_line_of_its_output_as_message(checkpoints: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    jobs.start(folder, ["check"])
    job = wait_for_job(lambda: jobs.observe(folder, False))
    assert job.state == "failed" and "DATA" in job.message


@pytest.mark.long
@pytest.mark.slow
def test_a_job_that_cannot_write_its_folder_is_an_error_that_says_so(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "job"
    with pytest.raises(RunError, match="a job cannot be started: Not a directory; free space there"):
        jobs.start(folder, ["--version"])
    assert not jobs.is_running(folder)


def test_job_that_succeeded_never_fails_when_its_result_is_removed(checkpoints: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    jobs.start(folder, ["--version"])
    assert jobs.wait(folder) == ""
    assert jobs.observe(folder, True).state == "done" and jobs.observe(folder, False).state == "none"
    jobs.remove_others(tmp_path / "newer")
    assert not folder.exists() and jobs.observe(folder, False).state == "none"


def test_job_waits_passively_beside_a_run_that_trains(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    make_run(checkpoints, "done")
    assert "OMP_WAIT_POLICY" not in jobs._environment()
    training = checkpoints / make_run(checkpoints, "training")
    pid = os.getpid()
    state = replace(read_state(training), state="running", pid=pid, pid_start=process_identity(pid))
    write_state(training, state)
    assert jobs._environment()["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.skipif(os.name == "nt", reason="niceness is a number on POSIX only")
def test_job_gives_way_to_pages(lowered_priorities: None, checkpoints: Path, tmp_path: Path, test_data: Path) -> None:
    folder = tmp_path / "job"
    jobs.start(folder, ["check", str(test_data / "Task04_Hippocampus")])
    expected = min(os.getpriority(os.PRIO_PROCESS, 0) + JOB_NICENESS, MAX_NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, jobs._running[folder].pid) == expected
    jobs.cancel(folder)


def test_killed_job_names_the_signal(checkpoints: Path, tmp_path: Path, test_data: Path) -> None:
    folder = tmp_path / "job"
    jobs.start(folder, ["check", str(test_data / "Task04_Hippocampus")])
    jobs._running[folder].kill()
    job = wait_for_job(lambda: jobs.observe(folder, False))
    assert (job.state, job.message) == ("failed", "the process was ended by signal 9; most likely the memory ran out")


def test_cancel_ends_only_its_own_job(checkpoints: Path, tmp_path: Path, test_data: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        jobs.start(folder, ["check", str(test_data / "Task04_Hippocampus")])
    process = jobs._running[folders[0]]
    jobs.cancel(folders[0])
    assert process.poll() is not None and not jobs.is_running(folders[0]) and jobs.is_running(folders[1])
    jobs.cancel(folders[0])
    jobs.cancel(folders[1])
