"""Files: written atomically, and recognised as changed by their size and time."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SUFFIX = ".tmp"
_WRITER = re.compile(r"\.(\d+)(?:\.[0-9a-f]{8})?\.tmp$")  # its PID; versions before 0.2 had no random part


class FileStamp(NamedTuple):
    """What changes when a file is written: size in bytes, modification time in nanoseconds since 1970; zeros where
    there is no file."""

    size: int
    mtime_ns: int


def file_stamp(path: Path) -> FileStamp:
    """The stamp of a file or folder, links followed."""
    try:
        facts = path.stat()
    except OSError:
        return FileStamp(0, 0)
    return FileStamp(facts.st_size, facts.st_mtime_ns)


def atomic_write(path: Path, data: bytes | str, *, durable: bool = False) -> None:
    """Replace a file as a whole: a reader, or a kill at any instant, finds the old content or the new one.

    Parameters
    ----------
    path : Path. The file; its folder must exist.
    data : bytes or str. Text is written as UTF-8.
    durable : bool. Whether the content is flushed to the disk before the file is replaced, so that a power cut leaves
        the old content or the new one too.

    Raises
    ------
    OSError
        If the file cannot be written; the old content is intact and no temporary file is left.
    """
    with atomic_replace(path, durable=durable) as temporary, open(temporary, "wb") as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_replace(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary file in the folder of ``path``, to be written in the block; it replaces ``path`` when the block ends,
    and is removed if the block raises. With ``durable``, the folder is flushed to the disk afterwards."""
    temporary = temporary_beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that no other process, on this machine or another, uses: ``.NAME.PID.RANDOM.tmp``."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{_SUFFIX}")


def remove_temporaries(folder: Path, name: str = "*", *, of_living: bool = True) -> None:
    """Remove temporary files of :func:`temporary_beside` that a killed process left behind.

    Parameters
    ----------
    folder : Path. The folder to clean; it may be missing.
    name : str. Pattern of the names of the files they were to replace.
    of_living : bool. Whether those of processes that are alive are removed too: only where nobody else writes.
    """
    for stale in folder.glob(f".{name}.*{_SUFFIX}"):
        writer = _WRITER.search(stale.name)
        if of_living or writer is None or not _is_another_living(int(writer[1])):
            stale.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk; nothing on Windows, where a rename is durable with its file."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_another_living(pid: int) -> bool:
    import psutil

    return pid != os.getpid() and psutil.pid_exists(pid)
