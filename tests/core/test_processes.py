"""Subprocesses of this program: their environment, their time limit, and the end of all that they started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from core.processes import PROJECT, ProcessLimits, module_command, module_environment, run_limited
from core.runs.store.process import process_identity
from tests.support.watching import wait_until

HANGS = """
import subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path(sys.argv[1]).write_text(str(child.pid))
child.wait()
"""


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
    assert run_limited([sys.executable, "-c", HANGS, str(tmp_path / "pid")], 1.5) is None
    assert time.monotonic() - started < 20
    child = int((tmp_path / "pid").read_text())
    wait_until(lambda: not process_identity(child), 20)


def test_limits_name_what_is_exceeded() -> None:
    own = os.getpid()
    assert ProcessLimits(2**60, 60.0).exceeded(own) == ""
    assert ProcessLimits(1000, 60.0).exceeded(own) == "more than 1 kB"
    assert ProcessLimits(2**60, -1.0).exceeded(own) == "longer than -1 s"
    assert ProcessLimits(2**60, -1.0, start_s=60.0).exceeded(own) == ""
