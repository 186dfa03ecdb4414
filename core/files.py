"""Atomic writing of files, reading of files that other hosts replace, and stamps to detect changed files and to keep
what was parsed from them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Generic, NamedTuple, TypeVar

from core.hosts import pid_space_in_file_name

Content = TypeVar("Content")

_SUFFIX = ".tmp"
# Host with PID namespace, PID and process of the writer; earlier versions wrote the host alone, no host, or nothing
# behind the PID.
_WRITER = re.compile(r"(?:\.@([A-Za-z0-9_-]+))?\.(\d+)(?:\.([0-9a-f]{4})[0-9a-f]{4})?\.tmp$")
_PROCESS = secrets.token_hex(2)  # differs from that of an earlier process with the same PID
_numbers = itertools.count(secrets.randbelow(0x10000))
_FORGOTTEN_S = 86400.0  # a temporary file of another machine or boot that was not written for so long is left
_TAIL_BYTES = 256 * 1024
_RETRY_S = (0.0, 0.01, 0.03, 0.1, 0.3)  # waits before reading again a file that was replaced while it was read
_MISSING_S = 0.03  # longest of them for a file that is missing


class FileStamp(NamedTuple):
    """Size in bytes and modification time in nanoseconds since 1970; zeros for a missing file."""

    size: int
    mtime_ns: int


NO_FILE = FileStamp(0, 0)


def file_stamp(path: Path) -> FileStamp:
    """The stamp of a file or folder, also while another host replaces it; links are followed."""
    try:
        status = read_replaced(path.stat)
    except OSError:
        return NO_FILE
    return FileStamp(status.st_size, status.st_mtime_ns)


class StampedCache(Generic[Content]):
    """Parsed content of files, kept in this process until the stamp of a file changes. Exceptions are not kept.

    Parameters
    ----------
    stamp : callable. State of a file, which changes with it.
    limit : int, optional. Largest sum of the sizes of what is kept; what was asked for longest ago is dropped first.
    size_of : callable. Size of a content, in the unit of the limit.
    """

    def __init__(
        self,
        stamp: Callable[[Path], Hashable] = file_stamp,
        limit: int | None = None,
        size_of: Callable[[Content], int] = lambda content: 1,
    ) -> None:
        self._kept: dict[tuple[Path, ...], tuple[list[Hashable], Content]] = {}
        self._stamp, self._limit, self._size_of, self._size = stamp, limit, size_of, 0

    def get(self, read: Callable[[], Content], *paths: Path, missing: Callable[[], Content] | None = None) -> Content:
        """The content of files.

        Parameters
        ----------
        read : callable. Reads and parses them.
        *paths : Path. The files.
        missing : callable, optional. Content where the first file does not exist; by default ``read`` finds out.
        """
        stamps = [self._stamp(path) for path in paths]
        if missing is not None and stamps[0] == NO_FILE:
            return missing()
        kept = self._kept.get(paths)
        if kept is not None and kept[0] == stamps:
            if self._limit is not None:
                self._kept[paths] = self._kept.pop(paths)  # the newest now
            return kept[1]
        content = read()
        self._keep(paths, stamps, content)
        return content

    def forget(self, *paths: Path) -> None:
        """Read files again next time, regardless of their modification times: they were written just now."""
        kept = self._kept.pop(paths, None)
        if kept is not None and self._limit is not None:
            self._size -= self._size_of(kept[1])

    def _keep(self, paths: tuple[Path, ...], stamps: list[Hashable], content: Content) -> None:
        if self._limit is None:
            self._kept[paths] = (stamps, content)
            return
        self.forget(*paths)
        self._kept[paths] = (stamps, content)
        self._size += self._size_of(content)
        while self._size > self._limit:
            self.forget(*next(iter(self._kept)))


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
    """A unique temporary path in the same folder, also over several machines: ``.NAME.@HOST-SPACE.PID.UNIQUE.tmp``,
    where SPACE stands for the boot and PID namespace."""
    unique = f"{_PROCESS}{next(_numbers) % 0x10000:04x}"
    return path.with_name(f".{path.name}.@{pid_space_in_file_name()}.{os.getpid()}.{unique}{_SUFFIX}")


def remove_temporaries(folder: Path, name: str = "*", *, of_living: bool = True) -> None:
    """Remove temporary files and folders of :func:`temporary_beside` that killed processes left.

    Parameters
    ----------
    folder : Path. The folder; may be missing.
    name : str. Glob pattern for the names of the final files.
    of_living : bool. Whether to remove files of running processes, and those that other hosts and boots have written
        within a day, too; only if no other process writes.
    """
    for stale in folder.glob(f".{name}.*{_SUFFIX}"):
        if of_living or not _may_be_written(stale, _WRITER.search(stale.name)):
            if stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)


def read_replaced(read: Callable[[], Content], *, exists: bool = False) -> Content:
    """Read a file that another host may replace at the same time: a network file system then reports a stale handle,
    for as long as it remembers where the file was, or until its folder is listed.

    Parameters
    ----------
    read : callable. Opens the file and reads it.
    exists : bool. Whether the file is known to exist, so that a missing one is read again too.

    Raises
    ------
    OSError
        As ``read`` does, after the last attempt.
    """
    retried = {errno.ESTALE, errno.ENOENT} if exists else {errno.ESTALE}
    for wait_s in _RETRY_S:
        try:
            return read()
        except OSError as error:
            if error.errno not in retried or (error.errno == errno.ENOENT and wait_s > _MISSING_S):
                raise
            with contextlib.suppress(OSError, TypeError):  # the error of a read, unlike that of opening, names no file
                os.listdir(os.path.dirname(error.filename))
        time.sleep(wait_s)
    return read()


def is_present(path: Path) -> bool:
    """Whether a file or folder exists, also while another host replaces it; links are followed.

    Raises
    ------
    OSError
        If the file system does not say, as where it does not answer.
    """
    try:
        read_replaced(path.stat)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def may_be_present(path: Path) -> bool:
    """Whether a file or folder exists, or its file system does not say."""
    try:
        return is_present(path)
    except OSError:
        return True


def read_tail(path: Path, lines: int) -> str:
    """The last lines of a text file; empty where it does not exist."""

    def read() -> str:
        with path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - _TAIL_BYTES))
            return handle.read().decode("utf-8", errors="replace")

    try:
        text = read_replaced(read)
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def append_line(file: BinaryIO, line: bytes) -> None:
    """Append a line in one write; the line before it is ended first where a kill has torn it.

    Parameters
    ----------
    file : binary file, opened with mode ``ab+``.
    line : bytes. The line with its end.
    """
    size, torn = file.seek(0, os.SEEK_END), False
    if size:
        file.seek(size - 1)
        torn = file.read(1) != b"\n"
    file.write(b"\n" + line if torn else line)


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line of a file that is appended to; ``None`` where it was torn by a kill, or is foreign."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def allow_open_files(count: int) -> None:
    """Let this process have so many more files open or mapped, as far as the system lets it."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = soft + count
        if soft != resource.RLIM_INFINITY:
            limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk. Not needed on Windows, where a rename is durable."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _may_be_written(path: Path, writer: re.Match[str] | None) -> bool:
    """Whether a temporary file may be of a running process: of this one, another one here, or any on another host or in
    another PID namespace, whose PIDs mean nothing here."""
    import psutil

    if writer is None:
        return False
    if writer[1] not in (None, pid_space_in_file_name()):
        return time.time() - file_stamp(path).mtime_ns / 1e9 < _FORGOTTEN_S
    pid = int(writer[2])
    return writer[3] == _PROCESS if pid == os.getpid() else psutil.pid_exists(pid)
