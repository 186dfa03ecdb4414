"""Reasons of death: evidence is read where the kernel gives it, and never invented."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core.runs.processes.exit_reason import OomCount, count_oom_kills, reason, signal_name

NOTHING = OomCount(None, None)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (OomCount(0, 3), OomCount(1, 4), "out of memory (the kernel killed for lack of memory in its control group"),
        (OomCount(None, 3), OomCount(None, 4), "out of memory (the kernel killed for lack of memory in this machine"),
        (NOTHING, NOTHING, "probably out of memory (the kernel's own count cannot be read here"),
        (OomCount(1, 3), OomCount(1, 3), "out of memory is the usual cause, but the kernel counted no such kill"),
    ],
)
def test_a_kill_we_did_not_send_names_its_evidence(before: OomCount, after: OomCount, expected: str) -> None:
    told = reason(-9, before, after, 3 * 2**30)
    assert told.startswith("its process was killed by SIGKILL, which Segmentarium did not send: ")
    assert expected in told and "its peak was 3.0 GiB" in told


def test_other_deaths() -> None:
    assert reason(-7, NOTHING, NOTHING, None).startswith("its process died of SIGBUS: a memory-mapped file")
    assert reason(-10, NOTHING, NOTHING, None) == "its process died of SIGUSR1"
    assert "status 3" in reason(3, NOTHING, NOTHING, None)
    assert (signal_name(0), signal_name(1), signal_name(-15), signal_name(-64)) == (None, None, "SIGTERM", "SIGRTMAX")
    assert signal_name(-99) == "signal 99"


def test_the_counters_of_both_control_group_versions_are_read(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    for folder in (proc / "self", groups / "user" / "job", groups / "memory" / "old"):
        folder.mkdir(parents=True)
    (proc / "vmstat").write_text("pgfault 5\noom_kill 7\n")
    (groups / "user" / "job" / "memory.events").write_text("low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n")
    (groups / "memory" / "old" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    (proc / "self" / "cgroup").write_text("0::/user/job\n")
    assert count_oom_kills(proc, groups) == OomCount(4, 7)
    (proc / "self" / "cgroup").write_text("12:cpu,cpuacct:/old\n11:memory:/old\n0::/\n")
    assert count_oom_kills(proc, groups) == OomCount(2, 7)
    assert count_oom_kills(tmp_path / "nowhere", groups) == OomCount(None, None)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_this_machine_can_be_asked() -> None:
    found = count_oom_kills()
    assert all(count is None or count >= 0 for count in (found.group, found.machine))
