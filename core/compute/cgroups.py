"""Memory limits and out-of-memory kills of the Linux control groups that this process belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = 2**60  # version 1 states a number near 2**63 where there is no limit


@dataclass(frozen=True)
class OomKills:
    """Processes that the kernel has killed for lack of memory; ``None`` where the count cannot be read.

    Attributes
    ----------
    group : int or None. In the control group of this process (a container, a job).
    machine : int or None. On the whole machine.
    """

    group: int | None
    machine: int | None


def memory_limits(proc: Path = PROC, cgroups: Path = CGROUPS) -> Iterator[tuple[int, int]]:
    """``(limit, used)`` in bytes of the control groups of this process and of the groups above them.

    Version 2 (``memory.max``) and 1 (``memory.limit_in_bytes``). The page cache that the kernel can drop is not counted
    as used. Nothing is yielded where there is no limit or no control group.
    """
    for version, root, group in _memory_groups(proc, cgroups):
        if version == 2:
            names = ("memory.max", "memory.current", "inactive_file")
        else:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        for folder in (group, *group.parents):
            limit, used = (_number(folder / name) for name in names[:2])
            if limit is not None and limit < NO_LIMIT:
                yield limit, max((used or 0) - (_entry(folder / "memory.stat", names[2]) or 0), 0)
            if folder == root:
                break


def count_oom_kills(proc: Path = PROC, cgroups: Path = CGROUPS) -> OomKills:
    """The kernel's counters (Linux 4.13 and later)."""
    group = None
    for version, _, folder in _memory_groups(proc, cgroups):
        group = _entry(folder / ("memory.events" if version == 2 else "memory.oom_control"), "oom_kill")
        if group is not None:
            break
    return OomKills(group, _entry(proc / "vmstat", "oom_kill"))


def _memory_groups(proc: Path, cgroups: Path) -> Iterator[tuple[int, Path, Path]]:
    """(version, root of the hierarchy, folder of the group) of the groups that limit this process's memory."""
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if not controllers:
            yield 2, cgroups, cgroups / path.lstrip("/")
        elif "memory" in controllers.split(","):
            yield 1, cgroups / "memory", cgroups / "memory" / path.lstrip("/")


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _entry(path: Path, name: str) -> int | None:
    """The number behind a name in a file of ``name number`` lines."""
    for line in _lines(path):
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return None


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError):
        return []
