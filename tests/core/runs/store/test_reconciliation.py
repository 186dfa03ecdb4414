"""State reconciled from what a run wrote and which of its processes are alive."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.presets import preset
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store.process import is_alive, process_identity
from core.runs.store.reconciliation import listed_state, reconciled_state, write_reconciled_state
from core.runs.store.state import read_state, write_state
from core.runs.store.stop_file import write_stop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return create_run(tmp_path, preset("quick"), foreground=True)


@pytest.fixture
def dead() -> int:
    """PID of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_process_is_identified_by_its_start_time_too(dead: int) -> None:
    me = os.getpid()
    assert process_identity(me) and is_alive(me, process_identity(me))
    assert not is_alive(me, f"{process_identity(me)}0")
    assert process_identity(dead) == "" and not is_alive(dead, "") and not is_alive(None, process_identity(me))


def test_zombie_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    before = process_identity(process.pid)
    assert is_alive(process.pid, before)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie: ended, not waited for
    assert not is_alive(process.pid, before)
    process.wait()


def test_state_of_a_run_with_live_processes_is_as_written(folder: Path) -> None:
    assert reconciled_state(folder).state == "starting"
    write_stop(folder)
    assert reconciled_state(folder).state == "stopping"


def test_dead_trainer_is_running_until_its_parent_wrote_the_exit_record(folder: Path, dead: int) -> None:
    write_state(folder, replace(read_state(folder), state="running", pid=dead, pid_start="start of an ended process"))
    assert reconciled_state(folder).state == "running"
    record = {"attempt": 1, "returncode": -9, "signal": "SIGKILL", "reason": "killed", "ended_at": 5.0}
    files.write_json(folder / files.EXIT, record)
    crashed = reconciled_state(folder)
    assert (crashed.state, crashed.message, crashed.ended_at) == ("crashed", "killed", 5.0)
    assert read_state(folder).state == "running"
    assert write_reconciled_state(folder).state == read_state(folder).state == "crashed"


def test_exit_record_of_an_earlier_attempt_is_ignored(folder: Path) -> None:
    files.write_json(folder / files.EXIT, {"attempt": 0, "returncode": -9, "reason": "long ago"})
    assert reconciled_state(folder).state == "starting"


def test_run_whose_processes_all_died_has_crashed(folder: Path, dead: int) -> None:
    boot = process_identity(os.getpid()).partition(":")[0]
    dead_state = replace(
        read_state(folder), state="running", shim_pid=dead, shim_start=f"{boot}:1", pid=dead, pid_start=f"{boot}:1"
    )
    write_state(folder, dead_state)
    assert (reconciled_state(folder).state, "not known" in reconciled_state(folder).message) == ("crashed", True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux numbers its boots")
def test_crash_by_a_reboot_is_recognised(folder: Path) -> None:
    write_state(folder, replace(read_state(folder), state="running", shim_start="another-boot:1", pid_space="other:1"))
    os.utime(folder / files.STATE, (time.time() - 600,) * 2)  # it has no heartbeat: of an earlier version
    assert "machine was restarted" in reconciled_state(folder).message


def test_final_state_of_the_trainer_takes_precedence_over_its_exit_record(folder: Path) -> None:
    write_state(folder, replace(read_state(folder), state="finished"))
    files.write_json(folder / files.EXIT, {"attempt": 1, "returncode": -11, "signal": "SIGSEGV", "reason": "at exit"})
    assert reconciled_state(folder).state == "finished"


def test_listed_state_of_an_ended_run_is_read_once_until_its_file_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read = list[str](), files.read_json

    def counted(path: Path, **how: bool) -> dict[str, object]:
        reads.append(path.name)
        return read(path, **how)

    monkeypatch.setattr(files, "read_json", counted)
    write_state(folder, replace(read_state(folder), state="stopped", message="one"))
    reads.clear()
    assert [listed_state(folder).message for _ in range(3)] == ["one"] * 3 and reads == [files.STATE]
    before = (folder / files.STATE).stat()
    write_state(folder, replace(read_state(folder), message="two"))
    os.utime(folder / files.STATE, ns=(before.st_atime_ns, before.st_mtime_ns))  # within one tick of the clock
    assert listed_state(folder).message == "two"


def test_listed_state_that_only_follows_from_processes_is_judged_each_time(folder: Path, dead: int) -> None:
    write_state(folder, replace(read_state(folder), state="running", shim_pid=dead, shim_start="x", pid=None))
    assert listed_state(folder).state == "crashed"
    own = os.getpid()
    state = replace(read_state(folder), pid=own, pid_start=process_identity(own))
    stamp = (folder / files.STATE).stat()
    files.write_json(folder / files.STATE, state.to_json())
    os.utime(folder / files.STATE, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert listed_state(folder).state == "running"
    (folder / files.STATE).unlink()
    assert listed_state(folder).state == "failed" and files.STATE in listed_state(folder).message


def test_damaged_state_is_a_failed_run_that_names_the_file(folder: Path) -> None:
    (folder / files.STATE).write_text('{"state": "run')
    assert reconciled_state(folder).state == "failed" and "state.json" in reconciled_state(folder).message
    assert abs(reconciled_state(folder).created_at - time.time()) < 60
    (folder / files.STATE).write_text('{"state": "running", "best": {"epoch": 3}}')
    assert reconciled_state(folder).state == "failed" and "damaged" in reconciled_state(folder).message
