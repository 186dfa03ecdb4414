"""The clock of a root's file system: how long ago a file was written, whatever the clocks of the hosts say.

A file server sets the time of what is written to it. Compared with a file that is written there just now, it does not
depend on the clock of the writer or the reader. Some file systems (GlusterFS) take the clock of the writer: there, only
what a process has observed is certain.
"""

from __future__ import annotations

import contextlib
import time
from functools import lru_cache
from pathlib import Path

from core.files import NO_FILE, file_stamp, temporary_beside
from core.runs.store.file_systems import file_system_of, is_network

MEASURED_EVERY_S = 600.0  # clocks drift, and are set

_ahead: dict[Path, tuple[float, float]] = {}  # root: when it was measured on the clock of this process, seconds


def age_s(path: Path, root: Path, written_at: float) -> float:
    """Time since a file was written, in seconds, by the clock of its file system.

    Parameters
    ----------
    path : Path. The file.
    root : Path. Checkpoints root that holds it, where a file may be written to read that clock.
    written_at : float. When it was written by the clock of its writer, in seconds since 1970: used where the file is
        missing.
    """
    stamp = file_stamp(path)
    if stamp == NO_FILE:
        return max(0.0, time.time() - written_at)
    return max(0.0, time.time() + _clock_ahead_s(root) - stamp.mtime_ns / 1e9)


@lru_cache(maxsize=64)
def has_own_clock(root: Path) -> bool:
    """Whether the times of files in a root are those of the clock of this machine, on whichever host they are written:
    on its own disks."""
    kind = file_system_of(root)
    return bool(kind) and not is_network(kind)


def _clock_ahead_s(root: Path) -> float:
    """Time by which the clock of a file system is ahead of this machine's; 0 where nothing can be written to it."""
    if has_own_clock(root):
        return 0.0
    known, now = _ahead.get(root), time.monotonic()
    if known is None or now - known[0] > MEASURED_EVERY_S:
        known = _ahead[root] = (now, _measure_clock_ahead_s(root))
    return known[1]


def _measure_clock_ahead_s(root: Path) -> float:
    probe = temporary_beside(root / "clock")
    try:
        before = time.time()
        probe.write_bytes(b"0")
        return probe.stat().st_mtime - (before + time.time()) / 2
    except OSError:
        return 0.0
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
