"""Engines are asked once per interval for all processes, and their answers are written and shown."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from core import cli, runs
from core.errors import RunError
from core.hosts import host_name
from core.presets import preset
from core.runs import engine_poller
from core.runs.engines.engine import Capabilities, Check, Engine, EngineError
from core.runs.engines.job_shell import OUTPUT
from core.runs.engines.local import LocalEngine
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store import heartbeat
from core.runs.store.engine_records import (
    ANSWERS,
    ENGINE,
    LOCAL,
    EngineAnswer,
    EngineRecord,
    JobReport,
    answer_age_s,
    answer_file,
    read_answer,
    read_engine,
    write_engine,
)
from core.runs.store.heartbeat import Heartbeat
from core.runs.store.process import locked
from core.runs.store.state import read_state, write_state
from core.runs.store.submissions import LEASES, submission
from tests.support.elsewhere import CLUSTER, JOB, OTHER, SETTINGS, answer, beat, run_elsewhere, with_job
from tests.support.watching import wait_until


class Scheduler(LocalEngine):
    """A simulated scheduler: every job waits, or what the test says."""

    name, kind, title = CLUSTER, "slurm", f"{CLUSTER} (Slurm)"
    poll_s = 3600.0
    capabilities = Capabilities(jobs=True)

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[int] = []
        self.reports: dict[str, JobReport] = {}
        self.sought: list[list[str]] = []
        self.on_find: Callable[[], object] = lambda: None
        self.found: dict[str, str] = {}
        self.error = ""
        self.pings = 0

    def find(self, records: Sequence[EngineRecord]) -> list[str]:
        self.sought.append([record.name for record in records])
        self.on_find()
        return [self.found.get(record.name, "") for record in records]

    def status_many(self, jobs: Sequence[str]) -> dict[str, JobReport]:
        self.asked.append(len(jobs))
        if self.error:
            raise EngineError(self.error)
        return {job: self.reports.get(job, JobReport("waiting", "it waits for free nodes")) for job in jobs}

    def ping(self) -> None:
        self.pings += 1
        if self.error:
            raise EngineError(self.error)

    def check(self, root: Path) -> Iterator[Check]:
        yield Check("controller", not self.error, self.error or "answers")


@pytest.fixture
def scheduler(root: Path, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    (root / "engines.toml").write_text(SETTINGS)
    engine = Scheduler(root)
    monkeypatch.setattr(engine_poller, "remote_engines", lambda root: [engine])
    monkeypatch.setattr(engine_poller, "list_engines", lambda root: [LocalEngine(root), engine])
    return engine


def queued(root: Path, job: str) -> Path:
    folder = create_run(root, preset("quick").with_values({"path": "demo"}), f"run {job}", engine=CLUSTER)
    write_engine(folder, EngineRecord(CLUSTER, f"{folder.name}-1", None, job, time.time()))
    return folder


def test_engine_is_asked_once_per_interval_whatever_the_number_of_askers(root: Path, scheduler: Scheduler) -> None:
    queued(root, "1")
    threads = [threading.Thread(target=engine_poller.ask, args=(root, scheduler)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not engine_poller.ask(root, scheduler)
    assert scheduler.asked == [1]


def test_pages_share_one_thread_that_asks(root: Path, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_poller, "_threads", {})
    queued(root, "1")
    for _ in range(20):  # as every page does on every run of its script
        engine_poller.ensure_pollers(root)
    (thread,) = engine_poller._threads.values()
    wait_until(lambda: scheduler.asked == [1])
    monkeypatch.setattr(engine_poller, "remote_engines", lambda root: [])
    thread.join(10)
    assert not thread.is_alive() and scheduler.asked == [1]


def test_answer_of_another_process_is_fresh_here_too(root: Path, scheduler: Scheduler) -> None:
    queued(root, "1")
    path = answer_file(root, CLUSTER)
    path.parent.mkdir()
    answer = EngineAnswer(time.time(), host_name(), 1, "", time.time(), {"1": JobReport("running", place="n1")})
    files.write_json(path, asdict(answer))
    assert not engine_poller.ask(root, scheduler) and scheduler.asked == []
    (run,) = runs.list_runs(root)
    assert run.state.state == "starting" and run.report == JobReport("running", place="n1")


def test_answer_of_another_version_is_read_without_what_only_that_writes(root: Path) -> None:
    path = answer_file(root, CLUSTER)
    path.parent.mkdir()
    report = {"state": "running", "reason": "", "place": "n1", "colour": "red", "cancelled": False}
    files.write_json(
        path, {"asked_at": 1.0, "host": "h", "count": 1, "error": "", "answered_at": 1.0, "jobs": {"1": report}}
    )
    assert read_answer(root, CLUSTER).jobs == {"1": JobReport("running", place="n1")}


def test_engine_without_open_runs_is_not_asked(root: Path, scheduler: Scheduler) -> None:
    folder = queued(root, "1")
    write_state(folder, replace(read_state(folder), state="finished"))
    assert not engine_poller.ask(root, scheduler) and scheduler.asked == []


def test_engine_without_open_runs_is_asked_while_a_page_shows_it_and_no_longer(
    root: Path, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not engine_poller.ask(root, scheduler)
    assert engine_poller.overview(root)[1].sentence == "nothing runs or waits; no answer yet"
    engine_poller.note_shown(root)
    asked = [engine_poller.ask(root, scheduler) for _ in range(20)]  # by as many pages
    assert asked.count(True) == scheduler.pings == 1 and scheduler.asked == []
    status = engine_poller.overview(root)[1]
    assert status.answers is True and status.sentence.startswith("nothing runs or waits; asked ")
    scheduler.poll_s, scheduler.error = 1e-6, "no route to its controller"
    assert engine_poller.ask(root, scheduler)
    status = engine_poller.overview(root)[1]
    assert status.answers is False and status.sentence.startswith("does not answer: no route to its controller; last")
    monkeypatch.setattr(engine_poller, "SHOWN_S", 0.0)
    assert not engine_poller.ask(root, scheduler) and scheduler.pings == 2


def test_old_failure_of_an_idle_engine_says_nothing_of_now(root: Path, scheduler: Scheduler) -> None:
    answer(root, None, "no route to its controller")
    os.utime(answer_file(root, CLUSTER), (time.time() - 600.0,) * 2)
    status = engine_poller.overview(root)[1]
    assert status.answers is None and status.sentence == "nothing runs or waits; asked 10 min ago"


def test_question_whether_an_idle_engine_answers_keeps_what_was_said_of_its_jobs(
    root: Path, scheduler: Scheduler
) -> None:
    folder = run_elsewhere(root, "stopped")
    with_job(folder)
    report = JobReport("ended", "its job was cancelled in Slurm; resume it", OTHER)
    answer(root, report)
    scheduler.poll_s = 1e-6
    assert engine_poller.ask(root, scheduler, idle=True)
    assert runs.get_run(root, folder.name).report == report


def test_failure_keeps_the_last_answer_and_says_why(root: Path, scheduler: Scheduler) -> None:
    queued(root, "1")
    engine_poller.ask(root, scheduler)
    scheduler.error, scheduler.poll_s = "no route to its controller", 1e-6
    engine_poller.ask(root, scheduler)
    answer = read_answer(root, CLUSTER)
    assert answer.error == "no route to its controller" and answer.jobs["1"].state == "waiting"
    (run,) = runs.list_runs(root)
    assert run.state.state == "queued" and "does not answer: no route" in run.state.message
    status = engine_poller.overview(root)[1]
    assert status.answers is False and "no route" in status.sentence


def submitted_by(folder: Path, lease: str) -> None:
    """A run whose submission began long ago, and has no job yet."""
    write_engine(folder, EngineRecord(CLUSTER, f"{folder.name}-1", None, "", time.time() - 600.0, lease))


@pytest.mark.fault(57, "submission that takes minutes: not called interrupted while its submitter works on it")
def test_slow_submission_is_not_called_interrupted_while_its_submitter_works(
    root: Path, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.02)
    folder, scheduler.poll_s = queued(root, ""), 1e-6
    with submission(root) as lease:
        submitted_by(folder, lease)
        monkeypatch.setattr(heartbeat, "OLD_S", 0.3)
        until = time.monotonic() + 0.6
        while time.monotonic() < until:  # longer than a lease that is not renewed lasts
            engine_poller.ask(root, scheduler)
            assert read_state(folder).state == "queued"
        assert runs.get_run(root, folder.name).state.message == f"it is being submitted to {CLUSTER}"
    engine_poller.ask(root, scheduler)  # the submission ended without a job: its submitter raised an error
    wait_until(lambda: engine_poller.ask(root, scheduler) and read_state(folder).state == "failed")
    assert "interrupted" in read_state(folder).message


def test_submission_whose_submitter_was_killed_is_interrupted(
    root: Path, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "OLD_S", 0.2)
    folder, scheduler.poll_s = queued(root, ""), 1e-6
    held = submission(root)
    submitted_by(folder, held.__enter__())
    with monkeypatch.context() as killed:
        killed.setattr(Heartbeat, "_run", lambda self: None)  # its thread is gone, the file is left
        path = next((root / ANSWERS / LEASES).iterdir())
        left = path.read_text()
        held.__exit__(None, None, None)
        path.write_text(left)
    wait_until(lambda: engine_poller.ask(root, scheduler) and read_state(folder).state == "failed")


def test_engine_counts_no_run_as_running_of_which_that_is_not_known(root: Path, scheduler: Scheduler) -> None:
    for state in ("running", "queued", "running"):
        folder = run_elsewhere(root, state)
        with_job(folder)
    beat(folder, 1, time.time() - 1200.0)
    answer(root, JobReport("running", place=OTHER))
    status = engine_poller.overview(root)[1]
    assert status.answers and status.sentence.startswith("2 running, 0 waiting, 1 stalled; asked "), "one begins"


def test_engine_that_was_not_asked_lately_is_not_said_to_answer(root: Path, scheduler: Scheduler) -> None:
    path = answer_file(root, CLUSTER)
    path.parent.mkdir()
    files.write_json(path, asdict(EngineAnswer(time.time() - 600.0, "other", 5, "", time.time() - 600.0)))
    os.utime(path, (time.time() - 600.0,) * 2)
    queued(root, "1")
    status = engine_poller.overview(root)[1]
    assert status.answers is None and status.sentence == "0 running, 1 waiting; asked 10 min ago"


def test_end_of_a_job_that_never_began_is_written(root: Path, scheduler: Scheduler) -> None:
    folder = queued(root, "1")
    scheduler.reports["1"] = JobReport("ended", "its job failed; look at the output of the job")
    engine_poller.ask(root, scheduler)
    assert (read_state(folder).state, read_state(folder).message) == ("failed", scheduler.reports["1"].reason)


def test_commands_list_and_check_engines(
    root: Path, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = queued(root, "1")
    monkeypatch.setattr("core.cli.engines.get_engine", lambda root, name: scheduler)
    assert cli.main(["engines", "--checkpoints", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "this machine: 0 running, 0 waiting" in shown and f"{CLUSTER} (Slurm): 0 running, 1 waiting" in shown
    assert scheduler.pings == 0, "it was asked about its job"
    assert folder.name in shown and "it waits for free nodes" in shown
    assert cli.main(["engines", "check", CLUSTER, "--checkpoints", str(root)]) == 0
    write_state(folder, replace(read_state(folder), state="finished"))
    scheduler.poll_s = 1e-6
    assert cli.main(["engines", "--checkpoints", str(root)]) == 0
    assert f"{CLUSTER} (Slurm): nothing runs or waits; asked 0 s ago" in capsys.readouterr().out
    assert scheduler.pings == 1
    scheduler.error = "no route"
    assert cli.main(["engines", "check", CLUSTER, "--checkpoints", str(root), "--json"]) == 1
    assert '"held": false' in capsys.readouterr().out


def test_commands_say_where_a_run_trains_and_what_its_job_wrote(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_elsewhere(root)
    with_job(folder)
    write_state(folder, replace(read_state(folder), attempt=2))
    beat(folder, 1, job=(JOB, 1))
    answer(root, JobReport("running", place=f"{OTHER}, 2 GPUs", restarts=1))
    (folder / OUTPUT).write_text("slurmstepd: error\n")
    files.append_log(folder, "what the run wrote")
    where = ["--checkpoints", str(root)]
    assert cli.main(["runs", "show", folder.name, *where]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"host {OTHER}, 2 GPUs history attempt 2, job restarted once" in shown
    assert cli.main(["runs", "show", folder.name, "--json", *where]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["where"] == {"hosts": f"{OTHER}, 2 GPUs", "attempt": 2, "restarts": 1}
    assert shown["job"]["restarts"] == 1
    assert cli.main(["runs", "log", folder.name, *where]) == 0
    assert capsys.readouterr().out.endswith(f"what the run wrote\n\noutput of job {JOB}:\nslurmstepd: error\n")
    assert cli.main(["runs", "log", folder.name, "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["job_output"] == ["slurmstepd: error"]
    (root / "engines.toml").unlink()
    assert cli.main(["runs", "log", folder.name, *where]) == 0, "its log is shown all the same"
    assert "engine: expected one of local" in capsys.readouterr().out


@pytest.mark.slow
def test_two_hundred_queued_runs_are_one_question(root: Path, scheduler: Scheduler) -> None:
    first = queued(root, "0")
    record = files.read_json(first / ENGINE)
    for number in range(1, 200):
        copy = shutil.copytree(first, root / f"run-{number}")
        files.write_json(copy / ENGINE, {**record, "job": str(number)})
    started = time.process_time()
    engine_poller.ask(root, scheduler)
    assert scheduler.asked == [200] and time.process_time() - started < 5.0
    assert {run.state.message for run in runs.list_runs(root)} == {"it waits for free nodes"}


def _is_engine(engine: Engine) -> Engine:
    """Both satisfy the interface (checked by mypy)."""
    return engine


def test_simulated_scheduler_has_the_interface_of_an_engine(root: Path) -> None:
    assert _is_engine(Scheduler(root)).name == CLUSTER and _is_engine(LocalEngine(root)).name == LOCAL


def unconfirmed(root: Path, name: str, submitted_at: float | None = None) -> Path:
    """A run whose submission was not answered."""
    folder = queued(root, "")
    at = time.time() if submitted_at is None else submitted_at
    write_engine(folder, EngineRecord(CLUSTER, name, submitted_at=at, problem="no answer"))
    return folder


def test_jobs_of_submissions_without_an_answer_are_looked_for_in_one_request(root: Path, scheduler: Scheduler) -> None:
    folders = [unconfirmed(root, f"array-{number // 3}") for number in range(6)]
    scheduler.found = {"array-0": "41"}
    assert engine_poller.ask(root, scheduler)
    (sought,) = scheduler.sought
    assert len(sought) == 6 and scheduler.asked == [3]
    assert sum(read_engine(folder).job == "41" for folder in folders) == 3  # type: ignore[union-attr]


def test_run_is_not_locked_while_its_engine_looks_for_its_job(root: Path, scheduler: Scheduler) -> None:
    folder = unconfirmed(root, "name")

    def stop() -> None:
        with locked(folder / files.LOCK, timeout_s=0.0):
            pass
        runs.request_stop(root, folder.name)

    scheduler.on_find, scheduler.found = stop, {"name": "41"}
    assert engine_poller.ask(root, scheduler)
    assert read_state(folder).state == "stopped" and read_engine(folder).job == ""  # type: ignore[union-attr]


def test_run_that_is_submitted_again_while_its_job_is_looked_for_does_not_fail(
    root: Path, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "OLD_S", 0.0)
    folder = unconfirmed(root, "name")
    again = EngineRecord(CLUSTER, "name", lease="of another process", submitted_at=time.time())
    scheduler.on_find = lambda: write_engine(folder, again)
    assert engine_poller.ask(root, scheduler)
    assert read_state(folder).state == "queued" and read_engine(folder) == again


def test_submission_by_a_host_whose_clock_is_behind_has_not_failed_at_once(root: Path, scheduler: Scheduler) -> None:
    folder = unconfirmed(root, "name", time.time() - 600.0)
    assert engine_poller.ask(root, scheduler)
    assert read_state(folder).state == "queued"


def test_answer_that_a_host_whose_clock_is_behind_has_written_is_recent(root: Path, scheduler: Scheduler) -> None:
    path = answer_file(root, CLUSTER)
    path.parent.mkdir()
    for behind_s in (600.0, -600.0):
        at = time.time() - behind_s
        files.write_json(path, asdict(EngineAnswer(at, "other", 5, "", at)))
        assert answer_age_s(root, CLUSTER) < 60.0


def test_folders_of_a_root_without_open_runs_are_looked_at_once_per_interval(
    root: Path, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = list[Path](), engine_poller.open_runs

    def counted(root: Path, engine: str) -> list[Path]:
        looks.append(root)
        return look(root, engine)

    monkeypatch.setattr(engine_poller, "open_runs", counted)
    for _ in range(5):
        assert not engine_poller.ask(root, scheduler)
    assert len(looks) == 1
    queued(root, "1")  # a new run is seen at once
    assert engine_poller.ask(root, scheduler) and len(looks) == 2


def test_engine_is_asked_once_per_interval_where_its_answer_cannot_be_written(
    root: Path, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(root, "1")

    def full(*_: object, **__: object) -> None:
        raise RunError("the disk is full")

    monkeypatch.setattr(files, "write_json", full)
    for _ in range(5):
        assert not engine_poller.ask(root, scheduler)
    assert scheduler.asked == [1]
