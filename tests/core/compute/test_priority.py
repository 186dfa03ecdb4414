"""Priorities of started processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.compute.priority import MAX_NICENESS, PRIORITY_VARIABLE, lower_priority
from core.processes import module_environment

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="niceness is a number on POSIX only"),
    pytest.mark.usefixtures("lowered_priorities"),
]
SLEEP = [sys.executable, "-c", "import sys; sys.stdin.read()"]
HAS_THREAD_AND_CHILD = f"""
import subprocess, sys, threading
child = subprocess.Popen({SLEEP!r}, stdin=subprocess.PIPE)
threading.Thread(target=sys.stdin.read, daemon=True).start()
print(child.pid, *(thread.native_id for thread in threading.enumerate()), flush=True)
threading.Event().wait()
"""
STARTS_CHILD = f"""
import subprocess
from pathlib import Path
from core.compute.priority import lower_priority
child = subprocess.Popen({SLEEP!r}, stdin=subprocess.PIPE)
lower_priority(child.pid, 5)  # a job of a server
print(Path("/proc/self/autogroup").read_text().split()[-1])
lower_priority(child.pid, 3, whole_session=True)
lower_priority(child.pid, 4, whole_session=True)  # once more
print(Path("/proc/self/autogroup").read_text().split()[-1])
child.communicate()
"""


@pytest.mark.parametrize(("added", "expected"), [(3, 3), (30, MAX_NICENESS)])
def test_niceness_is_added_up_to_the_limit(added: int, expected: int) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE) as process:
        lower_priority(process.pid, added)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(own + expected, MAX_NICENESS)
        process.communicate()
    lower_priority(process.pid, added)  # it has ended: no error
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux")
def test_priority_of_a_running_process_counts_for_its_threads_and_children() -> None:
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", HAS_THREAD_AND_CHILD], **pipes) as process:  # type: ignore[call-overload]
        ids = [int(id) for id in process.stdout.readline().split()]
        lower_priority(process.pid, 3)
        expected = min(os.getpriority(os.PRIO_PROCESS, 0) + 3, MAX_NICENESS)
        assert len(ids) == 3 and {os.getpriority(os.PRIO_PROCESS, id) for id in ids} == {expected}
        process.kill()


def test_priority_stays_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRIORITY_VARIABLE, "same")
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE) as process:
        lower_priority(process.pid, 3)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == os.getpriority(os.PRIO_PROCESS, 0)
        process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the kernel has no groups of sessions")
def test_priority_counts_beside_other_sessions() -> None:
    started = subprocess.run(
        [sys.executable, "-c", STARTS_CHILD],
        env=module_environment(),
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    assert started.stdout.split() == ["0", "7"]
