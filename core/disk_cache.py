"""A cache of computed files, limited in size; an entry is complete or absent, also if a process is killed.

An entry is a folder, made under a temporary name and renamed when it is complete. Readers keep the files they have
opened or mapped, also when their entry is removed (on Windows it is then removed later).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigError
from core.files import remove_temporaries, temporary_beside
from core.size_limits import SizeLimit

LIMIT = SizeLimit("SEGMENTARIUM_CACHE_GB", 50, "GB", ConfigError, may_be_zero=True)


@dataclass(frozen=True)
class CacheUse:
    """Content of a cache: complete entries, and their bytes."""

    entries: int
    nbytes: int


def cache_limit_bytes() -> int:
    """Most bytes of a cache: ``SEGMENTARIUM_CACHE_GB``, default 50 GB; 0 keeps only the newest entry.

    Raises
    ------
    ConfigError
        If the variable is not a number of at least 0.
    """
    return LIMIT.nbytes()


class DiskCache:
    """Entries by key in a folder.

    Parameters
    ----------
    folder : Path. Folder of the entries; it is made when the first one is added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Path | None:
        """The folder of an entry, which counts as used now; ``None`` if there is none."""
        entry = self.folder / key
        try:
            os.utime(entry)
        except OSError:
            # An entry of another user, or on a read-only disk, cannot be marked as used.
            return entry if entry.is_dir() else None
        return entry

    def add(self, key: str, write: Callable[[Path], None], *, tidy: bool = True) -> Path:
        """Make an entry, unless another process has finished it first, and remove those used longest ago while the
        cache exceeds its limit.

        Parameters
        ----------
        key : str. Name of the entry; a file name.
        write : callable. Writes the files of the entry into the folder that it is given. What it raises is raised, and
            leaves no entry.
        tidy : bool. Whether to remove entries now; a caller that adds many calls :meth:`tidy` once in a while.

        Raises
        ------
        OSError
            If the folder cannot be written.
        ConfigError
            If the limit is not a number.
        """
        limit_bytes = cache_limit_bytes()
        entry = self.folder / key
        self.folder.mkdir(parents=True, exist_ok=True)
        if tidy:
            self._remove_leftovers()
        temporary = temporary_beside(entry)
        temporary.mkdir()
        try:
            write(temporary)
            with contextlib.suppress(OSError):  # another process was first: its entry is as good
                os.rename(temporary, entry)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        if not entry.is_dir():
            raise OSError(f"{entry} could not be made")
        if tidy:
            self._shrink(limit_bytes, keep=entry)
        return entry

    def tidy(self) -> None:
        """Remove what killed processes left, and entries used longest ago while the cache exceeds its limit.

        Raises
        ------
        ConfigError
            If the limit is not a number.
        """
        self._remove_leftovers()
        self._shrink(cache_limit_bytes())

    def size(self, key: str) -> int:
        """Bytes on the disk that an entry takes; 0 without one."""
        return _size(self.folder / key)

    def use(self) -> CacheUse:
        """What the cache holds."""
        sizes = [_size(entry) for entry in self._entries()]
        return CacheUse(len(sizes), sum(sizes))

    def remove(self, key: str) -> None:
        """Remove an entry, if there is one."""
        _remove(self.folder / key)

    def clear(self) -> CacheUse:
        """Remove all entries; returns what they held."""
        use = self.use()
        for entry in self._entries():
            _remove(entry)
        self._remove_leftovers()
        return use

    def _entries(self) -> list[Path]:
        try:
            return [path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        except OSError:
            return []

    def _shrink(self, limit_bytes: int, keep: Path | None = None) -> None:
        entries = sorted((e for e in self._entries() if e != keep), key=_used)
        sizes = {entry: _size(entry) for entry in entries}
        total = sum(sizes.values()) + (0 if keep is None else _size(keep))
        for entry in entries:
            if total <= limit_bytes:
                return
            _remove(entry)
            total -= sizes[entry]

    def _remove_leftovers(self) -> None:
        """Remove what killed processes left."""
        remove_temporaries(self.folder, of_living=False)


def _remove(entry: Path) -> None:
    """Remove an entry so that it is never seen incomplete."""
    temporary = temporary_beside(entry)
    with contextlib.suppress(OSError):
        os.rename(entry, temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def _used(entry: Path) -> int:
    try:
        return entry.stat().st_mtime_ns
    except OSError:
        return 0


def _size(entry: Path) -> int:
    """Bytes of the files of an entry, without their holes."""
    total = 0
    with contextlib.suppress(OSError):
        for path in entry.iterdir():
            with contextlib.suppress(OSError):
                status = path.stat()
                total += min(status.st_size, getattr(status, "st_blocks", status.st_size) * 512)
    return total
