"""Bytes of image files, plain or gzipped, never more than asked for: truncation, wrong checksums and bombs are
errors."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from core.errors import VolumeError
from core.formatting import format_bytes

DEFAULT_MAX_BYTES = 8 * 2**30
MAX_DEFLATE_RATIO = 1032  # the most that one byte of a deflate stream can expand to (zlib's documentation)
BOMB_BYTES, BOMB_RATIO = 256 * 2**20, 400  # an image larger than this, compressed further than this, is none
CHUNK = 2**20


def limit_bytes() -> int:
    """The largest decoded image that is read: ``SEGMENTARIUM_MAX_BYTES``, default 8 GiB.

    Raises
    ------
    VolumeError
        If the variable is not a positive whole number.
    """
    text = os.environ.get("SEGMENTARIUM_MAX_BYTES", "").strip()
    if not text:
        return DEFAULT_MAX_BYTES
    if not text.isdecimal() or int(text) < 1:
        raise VolumeError(f"SEGMENTARIUM_MAX_BYTES: expected a whole number of bytes, got {text!r}")
    return int(text)


def open_checked(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises
    ------
    VolumeError
        If it does not exist, is a folder or a device, or may not be read.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise VolumeError(f"{path}: expected an image file, got a folder")
        if not stat.S_ISREG(mode):
            raise VolumeError(f"{path}: expected an image file, got a pipe or device")
        return open(path, "rb")
    except FileNotFoundError:
        raise VolumeError(f"{path}: expected an image file, found nothing there; check the path") from None
    except PermissionError:
        raise VolumeError(f"{path}: expected a readable file, got permission denied; change its permissions") from None
    except (OSError, ValueError) as error:
        raise VolumeError(f"{path}: cannot be opened: {error}") from error


def read_prefix(path: Path, count: int) -> bytes:
    """The first ``count`` bytes, uncompressed; fewer where the file ends before.

    Raises
    ------
    VolumeError
        If the file cannot be opened or is gzipped and damaged.
    """
    with open_checked(path) as file:
        if not _is_gzip(path):
            return _read(file, count, path)
        start = b""
        for piece in _inflated(path, file, count):
            start += piece
            if len(start) >= count:
                break
        return start[:count]


def read_exactly(path: Path, offset: int, count: int, *, extra: int = 0, image: bool = False) -> np.ndarray:
    """The ``count`` bytes that follow ``offset`` and end the file, uncompressed; uint8, shape (count,).

    ``extra`` is the memory in bytes that the caller needs on top, for the check beforehand. ``image`` says that the
    bytes are intensities, which never compress as far as a gzip bomb does (an empty label map may).

    Raises
    ------
    VolumeError
        If the file (uncompressed) is shorter or longer, its gzip checksum is wrong, other data follows, or there is not
        enough memory. A claim that the file cannot keep is refused before memory is taken.
    """
    with open_checked(path) as file:
        size = os.fstat(file.fileno()).st_size
        gzipped = _is_gzip(path)
        most = size * MAX_DEFLATE_RATIO if gzipped else size
        if offset + count > most:
            raise VolumeError(_cut_off(path, offset + count, None if gzipped else size))
        if image and gzipped and count > BOMB_BYTES and count > size * BOMB_RATIO:
            raise VolumeError(
                f"{path}: expected an image, got {format_bytes(count)} of next to nothing packed into "
                f"{format_bytes(size)}: a decompression bomb; store it uncompressed if it is right"
            )
        _check_memory(path, offset + count + extra)
        try:
            buffer = np.empty(offset + count, np.uint8)
            if gzipped:
                _gunzip(path, file, buffer.data)
            else:
                _fill(path, file, buffer.data, size)
        except MemoryError:
            raise VolumeError(
                f"{path}: expected {format_bytes(count)} of free memory, got less; close something"
            ) from None
    return buffer[offset:]


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _read(file: BinaryIO, count: int, path: Path) -> bytes:
    try:
        return file.read(count)
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read: {error}") from error


def _fill(path: Path, file: BinaryIO, buffer: memoryview, size: int) -> None:
    """Read a plain file into a buffer of exactly its size."""
    if size > len(buffer):
        raise VolumeError(_too_long(path, len(buffer), size - len(buffer)))
    try:
        filled = file.readinto(buffer)  # type: ignore[attr-defined]
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read: {error}") from error
    if filled != len(buffer):
        raise VolumeError(_cut_off(path, len(buffer), filled))


def _gunzip(path: Path, file: BinaryIO, buffer: memoryview) -> None:
    """Decompress a gzip file into a buffer that it must fill exactly."""
    filled = 0
    for piece in _inflated(path, file, CHUNK):
        if filled + len(piece) > len(buffer):
            raise VolumeError(_too_long(path, len(buffer), None))
        buffer[filled : filled + len(piece)] = piece
        filled += len(piece)
    if filled != len(buffer):
        raise VolumeError(_cut_off(path, len(buffer), filled))


def _inflated(path: Path, file: BinaryIO, most: int) -> Iterator[bytes]:
    """The content of a gzip file (one or more members, zeros between and behind them allowed) in pieces of at most
    ``most`` bytes; checksums are compared as members end."""
    pending = b""
    members = 0
    while pending := pending.lstrip(b"\0") or _read(file, CHUNK, path):
        if not pending.strip(b"\0"):
            continue
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            pending = pending or _read(file, CHUNK, path)
            if not pending:
                raise VolumeError(f"{path}: expected more gzip data, got its end; the file is cut off, copy it again")
            try:
                piece = member.decompress(pending, most)
            except zlib.error as error:
                raise VolumeError(_damaged(path, members, error)) from None
            pending = member.unused_data if member.eof else member.unconsumed_tail
            yield piece
        members += 1


def _check_memory(path: Path, count: int) -> None:
    """Refuse what does not fit into free memory, where the system says how much that is."""
    import psutil

    free = int(psutil.virtual_memory().available)
    if count > free:
        raise VolumeError(f"{path}: expected {format_bytes(count)} of free memory to read it, got {format_bytes(free)}")


def _cut_off(path: Path, expected: int, found: int | None) -> str:
    got = f"only {found}" if found is not None else "far fewer"
    return f"{path}: expected {expected} bytes as its header says, got {got}; the file is cut off, copy it again"


def _too_long(path: Path, expected: int, extra: int | None) -> str:
    more = f"{extra} more" if extra is not None else "more"
    return (
        f"{path}: expected {expected} bytes as its header says, got {more}; the file is damaged or its header is wrong"
    )


def _damaged(path: Path, members: int, error: zlib.error) -> str:
    text = str(error)
    if "incorrect data check" in text or "incorrect length check" in text:
        return f"{path}: expected data that fits its gzip checksum, got a mismatch; the file is damaged, copy it again"
    if "incorrect header check" in text and members:
        return f"{path}: expected the file to end after its gzip data, got other data behind it; copy it again"
    return f"{path}: expected gzip data, got something else ({text}); the file is damaged, copy it again"
