"""A run that another host trains: its state by heartbeat and engine, and what is refused until it has ended."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core import runs
from core.config import TrainConfig
from core.errors import RunError
from core.hosts import boot_id, host_name, machine_marks, pid_space
from core.presets import preset
from core.runs import give_up, run_actions
from core.runs.engine_poller import open_runs
from core.runs.engines.local import supervisor_file
from core.runs.launch import create_run
from core.runs.store import file_clock, heartbeat
from core.runs.store import folder as files
from core.runs.store.engine_records import ENGINE, JobReport
from core.runs.store.process import process_identity
from core.runs.store.reconciliation import INTERRUPTED, listed_state, reconciled_state, write_reconciled_state
from core.runs.store.run_origin import Origin, is_here
from core.runs.store.state import read_state, write_state
from core.runs.store.stop_file import AT_ONCE, SIGNALLED, read_stop, write_stop
from tests.support.elsewhere import CLUSTER, JOB, OTHER, answer, beat, run_elsewhere, with_job
from tests.support.watching import supervisor_in_this_process

LONG_AGO = -3600.0
OUT_OF_TIME = JobReport("ended", "out of time")


def test_pid_means_something_on_its_own_host_and_boot_only() -> None:
    own = f"{boot_id()}:5"
    assert is_here(Origin(host_name()), own) and is_here(Origin(), own)  # earlier versions wrote no host
    assert not is_here(Origin(OTHER), own)  # a container, or a machine, with another name
    assert not is_here(Origin(host_name()), "other-boot:5")
    assert is_here(Origin(OTHER, pid_space()), own)  # its name was changed since
    assert not is_here(Origin(host_name(), f"{boot_id()}:1"), own)  # a container of the same name


def before_it_was_renamed(folder: Path, **changes: Any) -> None:
    """A run whose state says that this machine, under another name, trains it, and whose processes are dead."""
    dead = {"pid": 2**22 - 3, "pid_start": f"{boot_id()}:1", "shim_pid": 2**22 - 2, "shim_start": f"{boot_id()}:1"}
    origin = {"pid_space": pid_space(), "marks": machine_marks()}
    write_state(folder, replace(read_state(folder), host="old-name", **{**dead, **origin, **changes}))


def test_run_that_died_before_the_host_was_renamed_has_crashed(root: Path) -> None:
    folder = run_elsewhere(root)
    before_it_was_renamed(folder)
    assert reconciled_state(folder).state == "crashed"
    before_it_was_renamed(folder, pid_space="", marks=())  # of an earlier version: it may be another host
    assert reconciled_state(folder).state == "unreachable"


def test_run_claimed_by_another_host_is_starting_until_its_heartbeat_is_due(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_elsewhere(root, "starting")
    assert reconciled_state(folder).state == "starting"
    monkeypatch.setattr("core.runs.store.heartbeat.OLD_S", -1.0)
    assert reconciled_state(folder).state == "unreachable"
    assert reconciled_state(folder).message == f"nothing was heard of {OTHER} yet"


def test_queue_of_a_renamed_host_stays_its_own(root: Path, no_supervisor: None) -> None:
    first, second = (run_elsewhere(root, "queued") for _ in range(2))
    before_it_was_renamed(first)
    assert runs.queued_runs(root) == [first.name] and reconciled_state(first).message == ""
    assert "waits in the queue of n1" in reconciled_state(second).message
    record = {"pid": os.getpid(), "identity": process_identity(os.getpid()), "host": "old-name"}
    files.write_json(root / ".supervisor.old-name.json", {**record, "pid_space": pid_space()})
    assert runs.supervisor_alive(root)  # no second one is started beside it
    files.write_json(root / ".supervisor.old-name.json", record)
    assert not runs.supervisor_alive(root)


@pytest.mark.parametrize(
    ("marks", "before_boot_s", "watched", "expected"),
    [
        (("mark", "docked"), 100.0, True, "crashed"),
        (("mark", "docked"), 100.0, False, "unreachable"),  # not watched for long enough yet
        (("mark", "docked"), -100.0, True, "unreachable"),  # it trained when this boot had begun: a clone
        (("other",), 100.0, True, "unreachable"),
        ((), 100.0, True, "unreachable"),
    ],
)
def test_run_of_an_earlier_boot_under_another_name_is_recognised_by_its_marks_but_not_that_of_a_clone(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    marks: tuple[str, ...],
    before_boot_s: float,
    watched: bool,
    expected: str,
) -> None:
    booted_at = time.time() - 1000
    monkeypatch.setattr("core.runs.store.run_origin.machine_marks", lambda: ("mark",))
    monkeypatch.setattr("core.runs.store.run_origin.booted_at", lambda: booted_at)
    folder = run_elsewhere(root)
    write_state(folder, replace(read_state(folder), marks=marks))
    beat(folder, 1, booted_at - before_boot_s)
    reconciled_state(folder)
    monkeypatch.setattr(heartbeat, "OLD_S", 0.0 if watched else 60.0)
    state = reconciled_state(folder)
    assert state.state == expected
    if expected == "crashed":
        assert f"it was called {OTHER} then" in state.message


def test_run_of_another_host_with_a_heartbeat_is_running(root: Path) -> None:
    folder = run_elsewhere(root)
    beat(folder, 1)
    assert reconciled_state(folder).state == "running"
    write_stop(folder)
    assert reconciled_state(folder).state == "stopping"


@pytest.mark.parametrize("skew_s", [-7200.0, 7200.0])
def test_clock_of_the_other_host_does_not_matter_once_its_beat_is_seen_to_change(root: Path, skew_s: float) -> None:
    folder = run_elsewhere(root)
    for count in (1, 2):
        beat(folder, count, clock_ahead_s=skew_s)
        state = reconciled_state(folder)
    assert state.state == "running"
    update_s = read_state(folder).updated_at + skew_s  # on the clock of its host
    write_state_at(folder, update_s)
    assert reconciled_state(folder).updated_at == pytest.approx(time.time(), abs=30)


@pytest.mark.fault(74, "clocks of hosts differ by hours: a live run counts as running, a dead one does not, at once")
@pytest.mark.parametrize("skew_s", [-7200.0, 7200.0])
def test_clock_of_the_other_host_does_not_matter_at_the_first_look(root: Path, skew_s: float) -> None:
    """A command looks once."""
    alive, dead = run_elsewhere(root), run_elsewhere(root)
    beat(alive, 1, clock_ahead_s=skew_s)
    beat(dead, 1, time.time() - 1200, clock_ahead_s=skew_s)
    states = {run.id: run.state for run in runs.list_runs(root)}
    assert states[alive.name].state == "running"
    assert states[dead.name].state == "unreachable" and "20 min ago" in states[dead.name].message


@pytest.mark.parametrize("server_ahead_s", [-7200.0, 7200.0])
def test_clock_of_a_file_server_is_read_from_a_file_that_is_written_there(
    root: Path, monkeypatch: pytest.MonkeyPatch, server_ahead_s: float
) -> None:
    monkeypatch.setattr(file_clock, "has_own_clock", lambda root: False)
    write_bytes, written = Path.write_bytes, list[Path]()

    def on_server(path: Path, content: bytes) -> int:
        written.append(path)
        size = write_bytes(path, content)
        os.utime(path, (time.time() + server_ahead_s,) * 2)
        return size

    monkeypatch.setattr(Path, "write_bytes", on_server)
    for file, age_s in (("new", 0.0), ("old", 900.0)):
        (root / file).touch()
        os.utime(root / file, (time.time() + server_ahead_s - age_s,) * 2)
        assert file_clock.age_s(root / file, root, written_at=0.0) == pytest.approx(age_s, abs=30)
    assert len(written) == 1 and {path.name for path in root.iterdir()} == {"new", "old"}, "once, and removed"
    assert file_clock.age_s(root / "missing", root, time.time() - 50) == pytest.approx(50, abs=30)


def test_root_that_cannot_be_written_is_read_by_the_clock_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_clock, "has_own_clock", lambda root: False)
    (tmp_path / "file").touch()
    assert file_clock.age_s(tmp_path / "file", tmp_path / "not there", 0.0) < 30


def write_state_at(folder: Path, updated_at: float) -> None:
    files.write_json(folder / files.STATE, {**read_state(folder).to_json(), "updated_at": updated_at})


def test_run_of_another_host_without_a_heartbeat_is_unreachable_since_a_stated_time(root: Path) -> None:
    folder = run_elsewhere(root)
    beat(folder, 1, time.time() - 1200)
    state = reconciled_state(folder)
    assert (state.state, state.message) == ("unreachable", f"last heard from {OTHER} 20 min ago")
    assert write_reconciled_state(folder).state == "unreachable" and read_state(folder).state == "running"


def test_run_whose_end_is_not_confirmed_is_not_changed(root: Path) -> None:
    folder = run_elsewhere(root)
    beat(folder, 1, time.time() + LONG_AGO)
    with pytest.raises(RunError, match=r"unreachable, and it is not confirmed .* last heard from n1 .* runs give-up"):
        runs.delete(root, folder.name)
    with pytest.raises(RunError, match=r"unreachable: last heard .* runs give-up"):
        runs.resume(root, folder.name)
    with pytest.raises(RunError, match="waits in the queue"):
        runs.move_in_queue(root, folder.name, "first")
    assert folder.is_dir() and read_state(folder).state == "running"
    runs.request_stop(root, folder.name)
    assert read_stop(folder) == ""


def test_lost_run_is_given_up_only_while_its_heartbeat_does_not_change(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_elsewhere(root)
    beat(folder, 1, time.time() + LONG_AGO)
    monkeypatch.setattr(heartbeat, "OLD_S", 0.05)
    monkeypatch.setattr(give_up, "POLL_S", 0.01)
    beats = itertools.count()
    monkeypatch.setattr(give_up, "read_beat", lambda folder: next(beats))
    with pytest.raises(RunError, match="not lost"):
        give_up.give_up(root, folder.name)
    monkeypatch.setattr(give_up, "read_beat", lambda folder: None)
    give_up.give_up(root, folder.name)
    assert read_state(folder).state == "crashed" and f"nothing was heard from {OTHER}" in read_state(folder).message
    with pytest.raises(RunError, match="it is crashed"):
        give_up.give_up(root, folder.name)
    runs.delete(root, folder.name)


def test_lost_run_whose_end_its_engine_confirms_meanwhile_ends_with_the_reason_of_the_engine(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_elsewhere(root)
    with_job(folder)
    answer(root, OUT_OF_TIME)
    beat(folder, 1, time.time() + LONG_AGO)
    monkeypatch.setattr(heartbeat, "OLD_S", 0.05)
    monkeypatch.setattr(give_up, "POLL_S", 0.06)  # it has been watched for long enough then
    monkeypatch.setattr(give_up, "heartbeat", SimpleNamespace(OLD_S=0.5))
    give_up.give_up(root, folder.name)
    assert (read_state(folder).state, read_state(folder).message) == ("crashed", "out of time")


def test_run_that_is_stopped_while_its_job_waits_to_be_restarted_is_stopped(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "OLD_S", 0.0)
    cancelled: list[str] = []
    monkeypatch.setattr(run_actions, "get_engine", lambda root, name: SimpleNamespace(cancel=cancelled.append))
    folder = run_elsewhere(root)
    with_job(folder)
    beat(folder, 1, time.time() + LONG_AGO)
    answer(root, JobReport("waiting", "its node failed"))
    runs.request_stop(root, folder.name)
    answer(root, JobReport("ended", "its job was cancelled", cancelled=True), count=2)
    assert cancelled == [JOB] and reconciled_state(folder).state == "stopped"


def test_run_in_the_queue_of_another_host_says_so(root: Path) -> None:
    assert f"in the queue of {OTHER}; stop and resume it" in reconciled_state(run_elsewhere(root, "queued")).message


def test_supervisor_leaves_runs_of_other_hosts_alone(root: Path) -> None:
    silent, waiting = run_elsewhere(root), run_elsewhere(root, "queued")
    beat(silent, 1, time.time() + LONG_AGO)
    before = [read_state(folder) for folder in (silent, waiting)]
    supervisor = supervisor_in_this_process(root)
    assert not supervisor.poll()  # neither its own to start nor to wait for
    assert [read_state(folder) for folder in (silent, waiting)] == before
    assert runs.queued_runs(root) == []
    with pytest.raises(RunError, match=f"waits in that of {OTHER}"):
        runs.move_in_queue(root, waiting.name, "first")


def test_supervisor_goes_on_where_the_engine_of_a_run_cannot_be_read(root: Path) -> None:
    folder = on_a_machine_of_this_name(root, "queued")
    (folder / ENGINE).write_text("damaged")
    assert not supervisor_in_this_process(root).poll()
    assert ENGINE in reconciled_state(folder).message


def test_supervisor_of_another_host_is_not_taken_for_one_of_this(root: Path) -> None:
    supervisor_in_this_process(root)
    assert runs.supervisor_alive(root)
    record = files.read_json(supervisor_file(root))
    files.write_json(supervisor_file(root), {**record, "host": OTHER})
    assert not runs.supervisor_alive(root)


def test_restart_of_this_machine_ends_its_runs_unless_a_beat_is_seen_to_change(root: Path) -> None:
    folder = on_a_machine_of_this_name(root)
    beat(folder, 1, time.time() + LONG_AGO, host_name())
    assert "machine was restarted" in reconciled_state(folder).message
    beat(folder, 2, time.time(), host_name())  # another machine of the same name
    assert reconciled_state(folder).state == "running"


def on_a_machine_of_this_name(root: Path, state: str = "running", marks: tuple[str, ...] = ()) -> Path:
    """A run that an earlier boot of this machine trained, or another machine with its name."""
    folder = run_elsewhere(root, state)
    write_state(folder, replace(read_state(folder), host=host_name(), marks=marks))
    return folder


@pytest.mark.parametrize("state", ["running", "starting"])
def test_keeper_ends_no_run_of_a_machine_of_the_same_name_before_it_has_watched_its_silence(
    root: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """On a file system that takes the times of files from the hosts that write them."""
    monkeypatch.setattr("core.runs.store.run_origin.has_own_clock", lambda root: False)
    folder = on_a_machine_of_this_name(root, state)
    if state == "running":
        beat(folder, 1, time.time() + LONG_AGO, host_name())
    else:  # it was claimed a moment ago, by a clock that is an hour behind
        os.utime(folder / files.STATE, (time.time() + LONG_AGO,) * 2)
    supervisor = supervisor_in_this_process(root)
    supervisor.poll()
    assert read_state(folder).state == state
    judged = reconciled_state(folder)
    assert judged.state == "unreachable" and "another machine has its name" in judged.message
    with pytest.raises(RunError, match="not confirmed that it has ended"):
        runs.delete(root, folder.name)
    monkeypatch.setattr(heartbeat, "OLD_S", 0.0)  # a minute later
    supervisor.poll()
    assert read_state(folder).state == "crashed" and "machine was restarted" in read_state(folder).message


def test_run_that_another_machine_of_the_same_name_has_just_claimed_has_not_ended(root: Path) -> None:
    folder = on_a_machine_of_this_name(root, "starting")
    supervisor_in_this_process(root).poll()
    assert reconciled_state(folder).state == "unreachable" and read_state(folder).state == "starting"


def test_machine_of_the_same_name_with_other_marks_is_another_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.runs.store.run_origin.machine_marks", lambda: ("mark",))
    monkeypatch.setattr("core.runs.engines.local.machine_marks", lambda: ("mark",))
    lost, waiting = (on_a_machine_of_this_name(root, state, ("other",)) for state in ("running", "queued"))
    mine = on_a_machine_of_this_name(root, "queued", ("docked", "mark"))
    beat(lost, 1, time.time() + LONG_AGO, host_name())
    monkeypatch.setattr(heartbeat, "OLD_S", 0.0)
    supervisor = supervisor_in_this_process(root)
    assert runs.queued_runs(root) == [mine.name]
    monkeypatch.setattr(supervisor, "_launch", lambda *_: None)
    supervisor.poll()
    assert reconciled_state(lost).state == "unreachable" and read_state(lost).state == "running"
    assert f"in the queue of another machine called {host_name()}" in reconciled_state(waiting).message
    file = supervisor_file(root)
    monkeypatch.setattr("core.runs.engines.local.machine_marks", lambda: ("other",))
    assert supervisor_file(root) != file, "each machine serves a queue of its own"


@pytest.mark.parametrize(
    ("report", "error", "old", "state", "message"),
    [
        (JobReport("waiting", "its node failed"), "", True, "queued", "its node failed"),
        (JobReport("running", place=OTHER), "", False, "running", ""),
        (JobReport("running", place=OTHER), "", True, "stalled", f"its job runs on {OTHER}, last heard from"),
        (None, "no route", False, "running", ""),
        (None, "no route", True, "unreachable", f"{CLUSTER} does not answer: no route"),
        (OUT_OF_TIME, "", False, "running", ""),
        (JobReport("unknown", "not known"), "", False, "running", ""),
        (OUT_OF_TIME, "", True, "unreachable", "out of time"),  # until this process has watched it being silent
    ],
)
def test_heartbeat_and_engine_together_judge_a_run(
    root: Path, report: JobReport | None, error: str, old: bool, state: str, message: str
) -> None:
    folder = run_elsewhere(root)
    write_state(folder, replace(read_state(folder), sub_volumes_per_s=9.0, remaining_s=60.0))
    with_job(folder)
    answer(root, report, error)
    beat(folder, 1, time.time() + (LONG_AGO if old else 0))
    judged = reconciled_state(folder)
    assert judged.state == state and message in judged.message
    known = (9.0, 60.0) if state == "running" else (None, None)
    assert (judged.sub_volumes_per_s, judged.remaining_s) == known, "of a run that is not seen to train they are old"
    assert read_state(folder).state == "running"


def test_run_whose_job_begins_is_where_its_job_is_and_takes_no_place_here(root: Path, no_supervisor: None) -> None:
    folder = create_run(root, preset("quick").with_values({"path": "demo"}))  # submitted by this machine
    with_job(folder)
    answer(root, JobReport("running", place=OTHER))
    begins = reconciled_state(folder)
    assert (begins.state, begins.host) == ("starting", OTHER) and not is_here(begins.origin, begins.shim_start)


def test_run_whose_job_ended_silently_crashes_with_the_reason_of_the_engine(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "OLD_S", 0.05)
    folder = run_elsewhere(root)
    with_job(folder)
    answer(root, OUT_OF_TIME)
    beat(folder, 1)
    assert reconciled_state(folder).state == "running"
    time.sleep(0.06)  # the clock is what is tested
    assert (write_reconciled_state(folder).state, read_state(folder).message) == ("crashed", "out of time")
    runs.delete(root, folder.name)


def test_cancelled_job_of_a_run_that_was_to_end_at_once_is_stopped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "OLD_S", 0.0)
    folder = run_elsewhere(root)
    with_job(folder)
    answer(root, JobReport("ended", "its job was cancelled", cancelled=True))
    beat(folder, 1)
    assert reconciled_state(folder).state == "crashed"
    write_stop(folder, AT_ONCE)
    assert (reconciled_state(folder).state, reconciled_state(folder).message) == (
        "stopped",
        "killed on request: its job was cancelled",
    )


def test_engine_that_is_asked_no_more_confirms_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.runs.store.engine_records.SILENT_S", -1.0)
    folder = run_elsewhere(root)
    with_job(folder)
    answer(root, OUT_OF_TIME)
    beat(folder, 1, time.time() + LONG_AGO)
    assert "was not asked recently" in reconciled_state(folder).message


@pytest.mark.parametrize(
    ("report", "state", "message"),
    [
        (JobReport("waiting", "it waits for free nodes"), "queued", "it waits for free nodes"),
        (JobReport("running", place=OTHER), "starting", ""),
        (JobReport("ended", "its job failed"), "failed", "its job failed"),
        (JobReport("ended", "its job was cancelled", cancelled=True), "stopped", "its job was cancelled"),
        (JobReport("unknown", "Slurm does not know"), "failed", "Slurm does not know"),
        (None, "queued", f"{CLUSTER} was not asked about it yet"),
    ],
)
def test_queued_run_of_a_cluster_is_what_its_job_is(
    root: Path, report: JobReport | None, state: str, message: str
) -> None:
    folder = run_elsewhere(root, "queued")
    with_job(folder)
    answer(root, report)
    judged = reconciled_state(folder)
    assert (judged.state, judged.message) == (state, message)
    assert runs.queued_runs(root) == []


def stopped_by_a_signal(root: Path, ended_at: float | None = None) -> Path:
    """A run that saved a checkpoint and ended, as its job was signalled."""
    folder = run_elsewhere(root, "stopped")
    with_job(folder)
    write_stop(folder, SIGNALLED)
    ended = time.time() if ended_at is None else ended_at
    write_state(folder, replace(read_state(folder), ended_at=ended, message="its job was asked to end"))
    return folder


def test_preempted_run_waits_until_its_job_is_started_again(root: Path) -> None:
    folder = stopped_by_a_signal(root)
    assert reconciled_state(folder).state == "stopped" and open_runs(root, CLUSTER) == [folder], "it is asked for"
    answer(root, JobReport("waiting", "jobs of higher priority are before it"))
    for state in (reconciled_state(folder), listed_state(folder), listed_state(folder)):
        assert state.state == "queued" and state.ended_at is None
        assert state.message == f"{INTERRUPTED}: jobs of higher priority are before it"
    assert open_runs(root, CLUSTER) == [folder] and runs.queued_runs(root) == []
    assert read_state(folder).state == "stopped", "the trainer has ended, which the folder says"
    write_stop(folder, AT_ONCE)  # a person stops it while it waits
    assert reconciled_state(folder).state == "stopped"


@pytest.mark.parametrize("report", [JobReport("ended", "out of time"), JobReport("unknown", "Slurm does not know it")])
def test_run_whose_job_is_not_started_again_stays_stopped_and_is_asked_about_no_more(
    root: Path, report: JobReport
) -> None:
    folder = stopped_by_a_signal(root)
    answer(root, report)
    assert listed_state(folder).message == "its job was asked to end"
    assert open_runs(root, CLUSTER) == [] and listed_state(folder).state == "stopped"


def test_run_whose_job_was_cancelled_says_so_when_its_engine_does(root: Path) -> None:
    folder, why = stopped_by_a_signal(root), "its job was cancelled in Slurm; resume it"
    answer(root, JobReport("ended", why, cancelled=True))
    assert listed_state(folder).message == reconciled_state(folder).message == why
    write_reconciled_state(folder)  # as with the answer; later ones say nothing of the job
    answer(root, None, count=2)
    assert read_state(folder).message == why
    assert reconciled_state(folder).state == "stopped"


def test_run_that_was_signalled_long_ago_is_not_asked_about(root: Path) -> None:
    folder = stopped_by_a_signal(root, time.time() - 3600.0)
    assert open_runs(root, CLUSTER) == [folder], "by the clock of its host, which may be wrong"
    os.utime(folder / files.STATE, (time.time() - 3600.0,) * 2)
    assert open_runs(root, CLUSTER) == []


def test_final_state_of_a_run_takes_precedence_over_the_report_of_its_engine(root: Path) -> None:
    folder = run_elsewhere(root, "finished")
    with_job(folder)
    answer(root, JobReport("running"))
    assert reconciled_state(folder).state == "finished"


def test_file_that_is_replaced_under_a_reader_is_read_again(
    root: Path, toy: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, answers = run_elsewhere(root, "finished"), [errno.ESTALE, errno.ENOENT]
    read = Path.read_text

    def stale(path: Path, encoding: str | None = None) -> str:
        if path.name == files.STATE and answers:
            raise OSError(answers.pop(), "replaced", str(path))
        return read(path, encoding=encoding)

    monkeypatch.setattr(Path, "read_text", stale)
    assert reconciled_state(folder).state == "finished" and not answers


def test_file_system_that_does_not_answer_is_no_failed_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_elsewhere(root, "finished")

    def broken(path: Path, encoding: str | None = None) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_text", broken)
    assert reconciled_state(folder).state == "unreachable"


def test_run_whose_engine_cannot_be_read_is_not_taken_for_one_of_this_machine(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = on_a_machine_of_this_name(root, "queued")
    with_job(folder)
    supervisor, read = supervisor_in_this_process(root), Path.stat

    def broken(path: Path, **how: bool) -> os.stat_result:
        if path.name == ENGINE:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(path, **how)

    monkeypatch.setattr(Path, "stat", broken)
    monkeypatch.setattr(Path, "read_text", lambda path, encoding=None: _unreadable(path, encoding))
    monkeypatch.setattr(supervisor, "_launch", lambda *_: pytest.fail("a cluster trains it"))
    supervisor.poll()


def _unreadable(path: Path, encoding: str | None) -> str:
    if path.name == ENGINE:
        raise OSError(errno.EIO, "Input/output error", str(path))
    with path.open(encoding=encoding) as file:
        return file.read()
