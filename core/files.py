"""Atomic writing of files, and stamps to detect changed files."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SUFFIX = ".tmp"
_WRITER = re.compile(r"\.(\d+)(?:\.[0-9a-f]{8})?\.tmp$")  # PID of the writer; versions before 0.2 had no random part


class FileStamp(NamedTuple):
    """Size in bytes and modification time in nanoseconds since 1970; zeros for a missing file."""

    size: int
    mtime_ns: int


def file_stamp(path: Path) -> FileStamp:
    """The stamp of a file or folder; links are followed."""
    try:
        status = path.stat()
    except OSError:
        return FileStamp(0, 0)
    return FileStamp(status.st_size, status.st_mtime_ns)


def atomic_write(path: Path, data: bytes | str, *, durable: bool = False) -> None:
    """Replace a file atomically: readers, and a kill at any instant, leave the complete old or new content.

    Parameters
    ----------
    path : Path. The file; its folder must exist.
    data : bytes or str. Content; text is encoded as UTF-8.
    durable : bool. Whether to flush the content to disk before the file is replaced; then a power failure, too, leaves
        the complete old or new content.

    Raises
    ------
    OSError
        If the file cannot be written. The old content is kept and no temporary file remains.
    """
    with atomic_replace(path, durable=durable) as temporary, open(temporary, "wb") as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_replace(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` for the block to write to.

    It replaces ``path`` at the end of the block, and is removed if the block raises. With ``durable``, the folder is
    flushed to disk afterwards; flushing the file is the block's task.
    """
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
    """A unique temporary path in the same folder, also over several machines: ``.NAME.PID.RANDOM.tmp``."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{_SUFFIX}")


def remove_temporaries(folder: Path, name: str = "*", *, of_living: bool = True) -> None:
    """Remove temporary files of :func:`temporary_beside` that killed processes left.

    Parameters
    ----------
    folder : Path. The folder; may be missing.
    name : str. Glob pattern for the names of the final files.
    of_living : bool. Whether to remove files of running processes too; only if no other process writes.
    """
    for stale in folder.glob(f".{name}.*{_SUFFIX}"):
        writer = _WRITER.search(stale.name)
        if of_living or writer is None or not _is_other_running_process(int(writer[1])):
            stale.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk. Not needed on Windows, where a rename is durable."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_other_running_process(pid: int) -> bool:
    import psutil

    return pid != os.getpid() and psutil.pid_exists(pid)
