"""Subprocesses of this program: their environment, their time limit, and the end of all that they started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core.processes import (
    PROJECT,
    ExceededLimit,
    JsonLinesChild,
    LimitExceededError,
    ProcessLimits,
    kill_tree,
    module_command,
    module_environment,
    run_limited,
)
from core.runs.store.process import process_identity
from tests.support.watching import wait_until

HANGS = 'sleep 600 & echo $! > "$0"; wait'  # of the shell, which starts in milliseconds on a busy machine too


def test_environment_finds_the_project_first_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "/other", str(PROJECT), "/other"]))
    assert module_environment()["PYTHONPATH"] == os.pathsep.join([str(PROJECT), "/other"])
    assert module_command("core.errors", "a") == [sys.executable, "-m", "core.errors", "a"]


def test_command_has_its_status_and_outputs() -> None:
    program = "import sys; print('out'); sys.stderr.write('error'); sys.exit(3 if sys.stdin.read() == '' else 4)"
    done = run_limited([sys.executable, "-c", program], 60.0)
    assert done is not None and (done.returncode, done.stdout, done.stderr) == (3, "out\n", "error")


@pytest.mark.slow
def test_hanging_process_is_killed_with_what_it_started(tmp_path: Path) -> None:
    started = time.monotonic()
    assert run_limited(["sh", "-c", HANGS, str(tmp_path / "pid")], 1.5) is None
    assert time.monotonic() - started < 20
    child = int((tmp_path / "pid").read_text())
    wait_until(lambda: not process_identity(child), 20)


def test_limits_name_what_is_exceeded() -> None:
    def exceeded(resident_bytes: int = 2**60, **limits: float) -> str:
        found = ProcessLimits(resident_bytes, **limits).exceeded(os.getpid())
        return "" if found is None else found.text

    assert exceeded(cpu_s=60.0) == ""
    assert exceeded(1000, cpu_s=60.0) == "more than 1 kB"
    assert exceeded(cpu_s=-1.0) == "more than -1 s of processor time"
    assert exceeded(cpu_s=-1.0, start_s=60.0) == ""
    assert exceeded(cpu_s=60.0, wall_s=-1.0) == "longer than -1 s, 0.0 s of them on the processor"


def test_only_the_time_of_the_processor_since_the_first_look_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a process may wait for a minute without doing anything."""
    import psutil

    used_s, now_s = [100.0], [0.0]
    times = type("Times", (), {"user": property(lambda self: used_s[0]), "system": 0.0})
    monkeypatch.setattr(psutil.Process, "cpu_times", lambda self: times())
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    limits = ProcessLimits(2**60, 5.0, 2.0)
    assert limits.exceeded(os.getpid()) is None
    used_s[0], now_s[0] = 106.9, 69.0
    assert limits.exceeded(os.getpid()) is None
    used_s[0] = 107.1
    assert limits.exceeded(os.getpid()) == ExceededLimit("more than 5 s of processor time")
    used_s[0], now_s[0] = 101.0, 71.0
    waiting = limits.exceeded(os.getpid())
    assert waiting == ExceededLimit("longer than 70 s, 1.0 s of them on the processor", is_waiting=True)


ANSWERS = """
import json, sys, time
for line in sys.stdin:
    question = json.loads(line)
    if question["do"] == "end":
        sys.exit(3)
    if question["do"] == "hang":
        time.sleep(600)
    while question["do"] == "compute":
        pass
    print(json.dumps({"number": question["number"] + 1}), flush=True)
    if question["do"] == "answer and end":
        break
"""


@pytest.fixture
def child() -> Iterator[JsonLinesChild]:
    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", ANSWERS]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    child = JsonLinesChild(start)
    yield child
    child._end()


@pytest.mark.slow
def test_child_answers_and_is_started_again_once_it_has_ended(child: JsonLinesChild) -> None:
    assert child.ask({"do": "answer", "number": 1}) == {"number": 2}
    first = child.process
    assert first is not None and child.ask({"do": "answer and end", "number": 2}) == {"number": 3}
    assert child.process is first
    assert child.ask({"do": "answer", "number": 3}) == {"number": 4}
    second = child.process
    assert second is not None and second is not first
    assert child.ask({"do": "answer", "number": 4}, anew=True) == {"number": 5} and child.process is not second
    assert child.ask({"do": "end", "number": 0}) is None and child.returncode == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "limits", "text"),
    [
        ("hang", {"cpu_s": 60.0, "wall_s": 0.3}, r"^longer than 0\.3 s, .* on the processor$"),
        ("compute", {"cpu_s": 0.3}, r"^more than 0\.3 s of processor time$"),
    ],
)
def test_child_that_exceeds_a_limit_is_killed(
    child: JsonLinesChild, does: str, limits: dict[str, float], text: str
) -> None:
    starts: list[bool] = []

    def limited(start: bool) -> ProcessLimits:
        starts.append(start)
        return ProcessLimits(2**60, **({"cpu_s": 60.0} if start else limits))

    assert child.ask({"do": "answer", "number": 1}, limited) == {"number": 2}
    process = child.process
    assert process is not None
    with pytest.raises(LimitExceededError, match=text) as caught:
        child.ask({"do": does, "number": 1}, limited)
    assert caught.value.limit.is_waiting == (does == "hang")
    assert process.returncode is not None and process.returncode < 0
    assert starts == [True, False]


@pytest.mark.parametrize("with_psutil", [True, False])
def test_descendants_are_killed_after_their_parent_which_cannot_act_on_their_end(
    with_psutil: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known, killed = tmp_path / "pid", list[int]()
    kill, kill_by_pid = psutil.Process.kill, os.kill

    def note_process(process: psutil.Process) -> None:
        killed.append(process.pid)
        kill(process)

    def note_pid(pid: int, signal: int) -> None:
        killed.append(pid)
        kill_by_pid(pid, signal)

    if with_psutil:
        monkeypatch.setattr(psutil.Process, "kill", note_process)
    else:
        monkeypatch.setattr("core.processes.find_spec", lambda name: None)
        monkeypatch.setattr(os, "kill", note_pid)
    with subprocess.Popen(["/bin/sh", "-c", HANGS, str(known)]) as process:
        wait_until(lambda: known.is_file() and known.read_text().endswith("\n"))
        kill_tree(process.pid)
        assert process.wait(10) == -9
    child = int(known.read_text())
    assert killed == [process.pid, child]
    monkeypatch.undo()
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_tree_that_has_ended_is_no_error_to_kill() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    kill_tree(process.pid)
