"""Progress of a foreground run on standard error."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from core.events import Ended, Note
from core.runs.reporting.terminal import TerminalProgress

progress = TerminalProgress()
progress(Note("first"))
sys.stdin.readline()  # until the test has closed the pipe of standard error
for number in range(3):
    progress(Note(f"line {number}"))
progress(Ended("finished", 1, 10, 1.0))
progress.close()
print("saved", flush=True)
"""


@pytest.mark.slow
def test_progress_to_a_closed_pipe_does_not_exit_the_process() -> None:
    """As with ``train ... 2>&1 | head``."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin and process.stdout and process.stderr
        assert process.stderr.readline().endswith("first\n")
        process.stderr.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.read() == "saved\n"
    assert process.returncode == 0
