"""The observed state, pieced together from what a run wrote and what its processes do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import RunError
from core.presets import preset
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store.process import alive, identity
from core.runs.store.state import Best, RunState, observe, read_state, settle, write_state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return create_run(tmp_path, preset("quick"), foreground=True)


@pytest.fixture
def dead() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_state_comes_back_from_json_and_unknown_fields_are_left_out() -> None:
    state = RunState(
        state="running", best=Best(3, 0.5, "whole volumes"), classes=("air", "CSF"), facts={"device": "cpu"}
    )
    assert RunState.from_json({**state.to_json(), "of a newer version": 1}) == state
    with pytest.raises(RunError, match="got 'dancing'"):
        RunState.from_json({"state": "dancing"})


def test_a_process_is_known_by_its_start_not_by_its_pid_alone(dead: int) -> None:
    me = os.getpid()
    assert identity(me) and alive(me, identity(me))
    assert not alive(me, f"{identity(me)}0")
    assert identity(dead) == "" and not alive(dead, "") and not alive(None, identity(me))


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    before = identity(process.pid)
    assert alive(process.pid, before)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, but nobody has collected it
    assert not alive(process.pid, before)
    process.wait()


def test_a_run_whose_processes_live_is_what_it_says(folder: Path) -> None:
    assert observe(folder).state == "starting"
    (folder / files.STOP).write_text("")
    assert observe(folder).state == "stopping"


def test_a_trainer_that_ended_is_not_judged_before_its_shim_has_written_how(folder: Path, dead: int) -> None:
    write_state(folder, replace(read_state(folder), state="running", pid=dead, pid_start="long gone"))
    assert observe(folder).state == "running"
    record = {"attempt": 1, "returncode": -9, "signal": "SIGKILL", "reason": "killed", "ended_at": 5.0}
    files.write_json(folder / files.EXIT, record)
    crashed = observe(folder)
    assert (crashed.state, crashed.message, crashed.ended_at) == ("crashed", "killed", 5.0)
    assert read_state(folder).state == "running"
    assert settle(folder).state == read_state(folder).state == "crashed"


def test_the_exit_of_an_earlier_attempt_says_nothing(folder: Path) -> None:
    files.write_json(folder / files.EXIT, {"attempt": 0, "returncode": -9, "reason": "long ago"})
    assert observe(folder).state == "starting"


def test_a_run_whose_processes_all_died_has_crashed(folder: Path, dead: int) -> None:
    boot = identity(os.getpid()).partition(":")[0]
    gone = replace(
        read_state(folder), state="running", shim_pid=dead, shim_start=f"{boot}:1", pid=dead, pid_start=f"{boot}:1"
    )
    write_state(folder, gone)
    assert (observe(folder).state, "how is not known" in observe(folder).message) == ("crashed", True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux numbers its boots")
def test_a_restarted_machine_is_the_reason(folder: Path) -> None:
    write_state(folder, replace(read_state(folder), state="running", shim_start="another-boot:1"))
    assert "machine was restarted" in observe(folder).message


def test_what_the_trainer_wrote_last_counts_more_than_its_exit(folder: Path) -> None:
    write_state(folder, replace(read_state(folder), state="finished"))
    files.write_json(folder / files.EXIT, {"attempt": 1, "returncode": -11, "signal": "SIGSEGV", "reason": "at exit"})
    assert observe(folder).state == "finished"


def test_a_damaged_state_is_a_failed_run_that_says_so(folder: Path) -> None:
    (folder / files.STATE).write_text('{"state": "run')
    assert observe(folder).state == "failed" and "state.json" in observe(folder).message
    assert abs(observe(folder).created_at - time.time()) < 60
    (folder / files.STATE).write_text('{"state": "running", "best": {"epoch": 3}}')
    assert observe(folder).state == "failed" and "damaged" in observe(folder).message
