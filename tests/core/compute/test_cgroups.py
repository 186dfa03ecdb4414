"""Memory limits and out-of-memory kills of control groups, versions 1 and 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core.compute.cgroups import OomKills, count_oom_kills, memory_limits


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_limits_of_version_2_groups_and_their_parents(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    assert list(memory_limits(proc, groups)) == []
    write(proc / "self", cgroup="0::/jobs/mine")
    write(groups, memory__max="8000")
    write(groups / "jobs", memory__max="max", memory__current="77")
    stat = "anon 900\ninactive_file 400\nactive_file 1"
    write(groups / "jobs" / "mine", memory__max="5000", memory__current="1500", memory__stat=stat)
    assert list(memory_limits(proc, groups)) == [(5000, 1100), (8000, 0)]


def test_limits_of_version_1_groups(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    write(proc / "self", cgroup="9:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/")
    write(
        groups / "memory",
        memory__limit_in_bytes=6000,
        memory__usage_in_bytes=2000,
        memory__stat="total_inactive_file 500",
    )
    assert list(memory_limits(proc, groups)) == [
        (6000, 1500)
    ]  # in a container: the folder of the group itself is missing
    write(groups / "memory", memory__limit_in_bytes=2**63 - 4096)
    assert list(memory_limits(proc, groups)) == []


def test_oom_kills_are_counted_in_both_versions(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    for folder in (proc / "self", groups / "user" / "job", groups / "memory" / "old"):
        folder.mkdir(parents=True)
    (proc / "vmstat").write_text("pgfault 5\noom_kill 7\n")
    (groups / "user" / "job" / "memory.events").write_text("low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n")
    (groups / "memory" / "old" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    (proc / "self" / "cgroup").write_text("0::/user/job\n")
    assert count_oom_kills(proc, groups) == OomKills(4, 7)
    (proc / "self" / "cgroup").write_text("12:cpu,cpuacct:/old\n11:memory:/old\n0::/\n")
    assert count_oom_kills(proc, groups) == OomKills(2, 7)
    assert count_oom_kills(tmp_path / "nowhere", groups) == OomKills(None, None)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_oom_kills_of_this_machine_are_readable() -> None:
    kills = count_oom_kills()
    assert all(count is None or count >= 0 for count in (kills.group, kills.machine))
