"""Subprocesses of this program: their environment, their time limit, and the end of all that they started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.processes import (
    PROJECT,
    JsonLinesChild,
    LimitExceededError,
    ProcessLimits,
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
    own = os.getpid()
    assert ProcessLimits(2**60, 60.0).exceeded(own) == ""
    assert ProcessLimits(1000, 60.0).exceeded(own) == "more than 1 kB"
    assert ProcessLimits(2**60, -1.0).exceeded(own) == "longer than -1 s"
    assert ProcessLimits(2**60, -1.0, start_s=60.0).exceeded(own) == ""


ANSWERS = """
import json, sys, time
for line in sys.stdin:
    question = json.loads(line)
    if question["do"] == "end":
        sys.exit(3)
    if question["do"] == "hang":
        time.sleep(600)
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
def test_child_that_exceeds_a_limit_is_killed(child: JsonLinesChild) -> None:
    starts: list[bool] = []

    def limits(start: bool) -> ProcessLimits:
        starts.append(start)
        return ProcessLimits(2**60, 0.5, 60.0 if start else 0.0)

    assert child.ask({"do": "answer", "number": 1}, limits) == {"number": 2}
    process = child.process
    assert process is not None
    with pytest.raises(LimitExceededError, match=r"^longer than 0 s$"):
        child.ask({"do": "hang", "number": 1}, limits)
    assert process.returncode is not None and process.returncode < 0
    assert starts == [True, False]
