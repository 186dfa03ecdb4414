"""Bounded reading of plain and gzipped image files; truncation, wrong checksums and decompression bombs are errors.

Whether a file is gzipped is read from its content, not from its name.
"""

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
from core.imaging.file_kinds import PREFIX_BYTES, identify, identify_dangling_link
from core.size_limits import SizeLimit

LIMIT = SizeLimit("SEGMENTARIUM_MAX_BYTES", 8 * 2**30, "bytes", VolumeError)  # of a decoded image
MAX_DEFLATE_RATIO = 1032  # largest expansion of a deflate stream (zlib's documentation)
BOMB_BYTES, BOMB_RATIO = 256 * 2**20, 400  # an image that is larger and compressed further is a decompression bomb
CHUNK_BYTES = 2**20
GZIP_MAGIC = b"\x1f\x8b"


def max_image_bytes() -> int:
    """Largest size of a decoded image, in bytes: ``SEGMENTARIUM_MAX_BYTES``, default 8 GiB.

    Raises
    ------
    VolumeError
        If the variable is not a positive whole number.
    """
    return LIMIT.nbytes()


def open_regular_file(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises
    ------
    VolumeError
        If it does not exist, is a folder, pipe or device, or is not readable.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise VolumeError(f"{path}: expected an image file, got a folder")
        if not stat.S_ISREG(mode):
            raise VolumeError(f"{path}: expected an image file, got a pipe or device")
        return open(path, "rb")
    except FileNotFoundError:
        link = identify_dangling_link(path)
        if link is not None:
            raise VolumeError(f"{path}: expected an image file, got {link.name}; {link.remedy}") from None
        raise VolumeError(f"{path}: expected an image file, found nothing there; check the path") from None
    except PermissionError:
        raise VolumeError(f"{path}: expected a readable file, got permission denied; change its permissions") from None
    except (OSError, ValueError) as error:
        raise VolumeError(f"{path}: cannot be opened: {error}") from error


def read_prefix(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of the uncompressed content; fewer if the content is shorter.

    Raises
    ------
    VolumeError
        If the file cannot be opened, or its gzip data is damaged.
    """
    with open_regular_file(path) as file:
        if not _starts_as_gzip(path, file):
            return _read(file, count, path)
        prefix = b""
        for piece in _decompress(path, file, count):
            prefix += piece
            if len(prefix) >= count:
                break
        return prefix[:count]


def is_gzip(path: Path) -> bool:
    """Whether the content of a file is gzipped.

    Raises
    ------
    VolumeError
        If the file cannot be opened.
    """
    with open_regular_file(path) as file:
        return _starts_as_gzip(path, file)


def read_exactly(path: Path, offset: int, count: int, *, extra: int = 0, image: bool = False) -> np.ndarray:
    """Read the ``count`` bytes from ``offset`` to the end of the uncompressed content.

    Parameters
    ----------
    offset, count : int. Bytes; the content must have exactly ``offset + count`` of them.
    extra : int. Further bytes that the caller will allocate, counted when free memory is checked.
    image : bool. Whether the bytes are intensities, which do not compress as far as a decompression bomb (an empty
        label map may).

    Returns
    -------
    ndarray, uint8, shape (count,).

    Raises
    ------
    VolumeError
        If the content is shorter or longer, the gzip checksum is wrong, other data follows, or memory is insufficient.
        A size that the file cannot have is rejected before memory is allocated.
    """
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        # The voxels of a pair have no header, and may begin like gzip by chance.
        gzipped = _starts_as_gzip(path, file) and (_is_named_gzip(path) or size != offset + count)
        possible = size * MAX_DEFLATE_RATIO if gzipped else size
        if offset + count > possible:
            _refuse_other_kind(path, file)
            raise VolumeError(cut_off(path, offset + count, None if gzipped else size))
        if image and gzipped:
            refuse_bomb(path, count, size)
        _check_memory(path, offset + count + extra)
        try:
            buffer = np.empty(offset + count, np.uint8)
            if gzipped:
                _read_gzip(path, buffer.data)
            else:
                _read_plain(path, file, buffer.data, size)
        except MemoryError:
            raise VolumeError(
                f"{path}: expected {format_bytes(count)} of free memory, got less; close other programs"
            ) from None
    return buffer[offset:]


def decompress_pieces(path: Path, count: int, *, image: bool = False) -> Iterator[bytes]:
    """Decompress a gzip file whose content has exactly ``count`` bytes, in pieces.

    Parameters
    ----------
    image : bool. Whether the bytes are intensities (:func:`read_exactly`).

    Raises
    ------
    VolumeError
        As :func:`read_exactly`; the last piece is yielded before the end of the file is checked.
    """
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if count > size * MAX_DEFLATE_RATIO:
            raise VolumeError(cut_off(path, count, None))
        if image:
            refuse_bomb(path, count, size)
        done = 0
        for piece in _decompress(path, file, CHUNK_BYTES):
            done += len(piece)
            if done > count:
                raise VolumeError(_too_long(path, count, None))
            yield piece
        if done != count:
            raise VolumeError(cut_off(path, count, done))


def refuse_too_large(path: Path, nbytes: int, shape: str) -> None:
    """Refuse an image that takes more than :func:`max_image_bytes`.

    Parameters
    ----------
    nbytes : int. Bytes of its voxels, stored or as float32, whichever is more.
    shape : str. Its size as text.

    Raises
    ------
    VolumeError
        If it does.
    """
    limit = max_image_bytes()
    if nbytes > limit:
        raise VolumeError(
            f"{path}: expected at most {format_bytes(limit)} of voxels, got {format_bytes(nbytes)} ({shape}); if this "
            "is right, raise SEGMENTARIUM_MAX_BYTES"
        )


def refuse_bomb(path: Path, count: int, size: int) -> None:
    """Refuse ``count`` bytes of intensities that are compressed to ``size`` bytes, further than images are.

    Raises
    ------
    VolumeError
        If they are.
    """
    if count > BOMB_BYTES and count > size * BOMB_RATIO:
        raise VolumeError(
            f"{path}: expected an image, got {format_bytes(count)} compressed to {format_bytes(size)}, "
            "a decompression bomb; store it uncompressed if this is right"
        )


def cut_off(path: Path, expected: int, found: int | None = None) -> str:
    """The error of a file with fewer bytes than its header states; ``found`` is ``None`` where they are not counted."""
    got = f"only {found}" if found is not None else "far fewer"
    return f"{path}: expected {expected} bytes according to its header, got {got}; the file is cut off, copy it again"


def _is_named_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _starts_as_gzip(path: Path, file: BinaryIO) -> bool:
    """Whether a file at its beginning, where it stays, holds gzip data."""
    start = _read(file, len(GZIP_MAGIC), path)
    file.seek(0)
    return start == GZIP_MAGIC


def _refuse_other_kind(path: Path, file: BinaryIO) -> None:
    """Raise if a file that is too short for its voxels is a pointer or a text."""
    start = _read(file, PREFIX_BYTES, path)
    file.seek(0)
    kind = identify(start) if len(start) < PREFIX_BYTES and start.isascii() else None
    if kind is not None:
        raise VolumeError(f"{path}: expected the voxels of an image, got {kind.name}; {kind.remedy}")


def _read(file: BinaryIO, count: int, path: Path) -> bytes:
    try:
        return file.read(count)
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read: {error}") from error


def _read_plain(path: Path, file: BinaryIO, buffer: memoryview, size: int) -> None:
    """Read a plain file into a buffer of exactly its size."""
    if size > len(buffer):
        raise VolumeError(_too_long(path, len(buffer), size - len(buffer)))
    try:
        filled = file.readinto(buffer)  # type: ignore[attr-defined]
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read: {error}") from error
    if filled != len(buffer):
        raise VolumeError(cut_off(path, len(buffer), filled))


def _read_gzip(path: Path, buffer: memoryview) -> None:
    """Decompress a gzip file into a buffer that it must fill exactly."""
    filled = 0
    for piece in decompress_pieces(path, len(buffer)):
        buffer[filled : filled + len(piece)] = piece
        filled += len(piece)


def _decompress(path: Path, file: BinaryIO, piece_bytes: int) -> Iterator[bytes]:
    """Decompress a gzip file in pieces of at most ``piece_bytes`` bytes.

    Checksums are verified at the end of each member. Several members, and zero bytes between and after them, are
    allowed.
    """
    pending = b""
    members = 0
    while pending := pending.lstrip(b"\0") or _read(file, CHUNK_BYTES, path):
        if not pending.strip(b"\0"):
            continue
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            pending = pending or _read(file, CHUNK_BYTES, path)
            if not pending:
                raise VolumeError(f"{path}: expected more gzip data, got its end; the file is cut off, copy it again")
            try:
                piece = member.decompress(pending, piece_bytes)
            except zlib.error as error:
                raise VolumeError(_damaged(path, members, error)) from None
            pending = member.unused_data if member.eof else member.unconsumed_tail
            yield piece
        members += 1


def _check_memory(path: Path, count: int) -> None:
    """Raise if ``count`` bytes do not fit into free memory."""
    import psutil

    free = int(psutil.virtual_memory().available)
    if count > free:
        raise VolumeError(f"{path}: expected {format_bytes(count)} of free memory to read it, got {format_bytes(free)}")


def _too_long(path: Path, expected: int, extra: int | None) -> str:
    more = f"{extra} more" if extra is not None else "more"
    return (
        f"{path}: expected {expected} bytes according to its header, got {more}; "
        "the file is damaged or its header is wrong"
    )


def _damaged(path: Path, members: int, error: zlib.error) -> str:
    text = str(error)
    if "incorrect data check" in text or "incorrect length check" in text:
        return f"{path}: expected data that fits its gzip checksum, got a mismatch; the file is damaged, copy it again"
    if "incorrect header check" in text and members:
        return f"{path}: expected the file to end after its gzip data, got other data after it; copy it again"
    return f"{path}: expected gzip data, got something else ({text}); the file is damaged, copy it again"
