"""Receives the files of an uploaded data set: writes them beside the data sets, unpacks them, moves them there at once.

Until it is complete, what was uploaded lies in a hidden folder of the data root, on the same disk, so that a data set
appears whole or not at all. Names are kept; paths that leave the folder, links and what exceeds the limits are refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import threading
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from core.errors import DatasetError
from core.files import sync_folder
from core.formatting import format_bytes
from core.imaging.bounded_io import MAX_DEFLATE_RATIO
from core.size_limits import SizeLimit

FOLDER = ".incoming"
MAX_FILES = 100_000
LIMIT = SizeLimit("SEGMENTARIUM_MAX_UPLOAD_GB", 100, "GB", DatasetError)
SPARE_BYTES = 2**30  # of the disk, left free
ARCHIVE_BOMB_BYTES, ARCHIVE_BOMB_RATIO = 2**30, 200  # an archive that grows beyond both is a decompression bomb
MAX_AGE_S = 24 * 3600.0
MAX_NAME_BYTES = 255
PIECE_BYTES = 2**20
_ID = re.compile("[0-9a-f]{32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OF_SYSTEMS = re.compile(r"(^|/)(__MACOSX/|\._[^/]*$|\.DS_Store$|Thumbs\.db$|desktop\.ini$)")
_DAMAGED = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def max_upload_bytes() -> int:
    """Most bytes of an uploaded data set, unpacked: ``SEGMENTARIUM_MAX_UPLOAD_GB``, default 100 GB.

    Raises
    ------
    DatasetError
        If the variable is not a positive number.
    """
    return LIMIT.nbytes()


def begin(root: Path) -> str:
    """Begin an upload into a data root; returns its id. Uploads that were left unfinished for a day are removed.

    Raises
    ------
    DatasetError
        If the root cannot be written.
    """
    sweep(root)
    id = secrets.token_hex(16)
    try:
        (root / FOLDER / id).mkdir(parents=True)
    except OSError as error:
        raise DatasetError(f"{root}: expected a folder to write to, got: {error.strerror or error}") from error
    return id


def safe_path(name: str) -> PurePosixPath:
    """The relative path of an uploaded file, with its folders.

    Raises
    ------
    DatasetError
        If it is absolute, leads out of the folder, or holds control characters or parts that are too long.
    """
    text = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
    shown = _CONTROL.sub("?", text)[:120]
    parts = text.split("/")
    if not text or text.startswith("/") or "\\" in text or _CONTROL.search(text) or re.match(r"[A-Za-z]:", text):
        raise DatasetError(f"{shown!r}: expected a relative path of folders and a file, got another name; rename it")
    if any(part in ("", ".", "..") for part in parts):
        raise DatasetError(f"{shown!r}: expected a path inside the data set, got one that leaves it; rename it")
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise DatasetError(f"{shown!r}: expected names of at most {MAX_NAME_BYTES} bytes; shorten it")
    return PurePosixPath(text)


def is_of_system(name: str) -> bool:
    """Whether a path is of a file that systems add, not of a data set."""
    return _OF_SYSTEMS.search(name) is not None


def receive(root: Path, id: str, name: str, pieces: Iterable[bytes]) -> int:
    """Write an uploaded file; returns its size in bytes. A file that was received in part is removed.

    Raises
    ------
    DatasetError
        If the upload is unknown, the name unsafe or taken, or the limits are exceeded.
    """
    folder = _folder(root, id)
    target = folder / safe_path(name)
    room = _room_of(folder)
    room.take_file()
    written = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as file:
            try:
                for piece in pieces:
                    written += len(piece)
                    room.take(len(piece))
                    file.write(piece)
            except BaseException:
                file.close()
                target.unlink(missing_ok=True)
                room.take(-written)
                raise
    except FileExistsError:
        raise DatasetError(f"{name[:120]!r}: expected each file once, got it twice; rename one of them") from None
    except (NotADirectoryError, IsADirectoryError):
        raise DatasetError(f"{name[:120]!r}: expected a file or a folder of this name, got both; rename one") from None
    except OSError as error:
        raise DatasetError(f"{name[:120]!r}: cannot be written: {error.strerror or error}") from error
    return written


def finish(root: Path, id: str, name: str) -> Path:
    """Unpack archives and move what was uploaded into the data root; returns its folder.

    Where all lies in one folder, that is the data set. A name that is taken gets a number.

    Raises
    ------
    DatasetError
        If there is nothing, or an archive is damaged, unsafe or too large; then nothing is moved.
    """
    folder = _folder(root, id)
    for archive in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() == ".zip"):
        unpack(archive, archive.parent, _Room(folder, archive))
        archive.unlink()
    content = [p for p in folder.iterdir() if not is_of_system(p.name)]
    if not content:
        raise DatasetError("expected files of a data set, got none; choose a ZIP archive, or several files")
    single = content[0] if len(content) == 1 and content[0].is_dir() else None
    source = single or folder
    base = _folder_name((single.name if single is not None else name) or "upload")
    try:
        for number in range(1, 1000):
            target = root / (base if number == 1 else f"{base}-{number}")
            if not os.path.lexists(target):
                os.rename(source, target)
                sync_folder(root)
                break
        else:
            raise DatasetError(f"{root / base}: expected a free name, got none; rename the upload")
    except OSError as error:
        raise DatasetError(f"{root / base}: cannot be made: {error.strerror or error}") from error
    _forget(folder)
    return target


def cancel(root: Path, id: str) -> None:
    """Remove an upload that is not finished."""
    with contextlib.suppress(DatasetError):
        _forget(_folder(root, id))


def sweep(root: Path, max_age_s: float = MAX_AGE_S) -> None:
    """Remove uploads that were left unfinished for ``max_age_s`` seconds."""
    with contextlib.suppress(OSError):
        for folder in (root / FOLDER).iterdir():
            with contextlib.suppress(OSError):
                newest = max((p.stat().st_mtime for p in (folder, *folder.rglob("*"))), default=0)
                if time.time() - newest > max_age_s:
                    _forget(folder)


def unpack(archive: Path, target: Path, room: _Room | None = None) -> list[Path]:
    """Unpack a ZIP archive; returns its files. What systems add (``__MACOSX``, ``._`` files) is left out.

    Raises
    ------
    DatasetError
        If it is damaged, encrypted, holds links or unsafe names, or exceeds the limits; files that were written stay.
    """
    room = room or _Room(target)
    files: list[Path] = []
    try:
        with zipfile.ZipFile(archive) as source:
            entries = [entry for entry in source.infolist() if not is_of_system(entry.filename)]
            _check_entries(archive, entries)
            for entry in entries:
                path = target / safe_path(entry.filename.rstrip("/"))
                if entry.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                room.take_file()
                with source.open(entry) as packed, open(path, "xb") as file:
                    for piece in _pieces(packed):
                        room.take(len(piece))
                        file.write(piece)
                files.append(path)
    except DatasetError as error:
        raise DatasetError(f"{archive.name}: {error}") from None
    except FileExistsError as error:
        raise DatasetError(f"{archive.name}: expected each file once, got {Path(error.filename).name} twice") from None
    except _DAMAGED as error:
        raise DatasetError(
            f"{archive.name}: expected a ZIP archive, got a damaged one ({error}); pack it again"
        ) from None
    except OSError as error:
        raise DatasetError(f"{archive.name}: cannot be unpacked: {error.strerror or error}") from error
    return files


_rooms: dict[Path, _Room] = {}  # by folder of an upload; measured once, since a large folder takes long
_rooms_lock = threading.Lock()


def _room_of(folder: Path) -> _Room:
    with _rooms_lock:
        if folder not in _rooms:
            _rooms[folder] = _Room(folder)
        return _rooms[folder]


def _forget(folder: Path) -> None:
    """Remove an upload."""
    with _rooms_lock:
        _rooms.pop(folder, None)
    shutil.rmtree(folder, ignore_errors=True)


class _Room:
    """Bytes and files that may still be written into a folder, by the limits of an upload and the free disk space."""

    def __init__(self, folder: Path, archive: Path | None = None) -> None:
        # An archive that is unpacked does not count: it is removed when that is done.
        used = [p.stat().st_size for p in folder.rglob("*") if p.is_file() and p != archive]
        self._lock = threading.Lock()
        self._files = len(used)
        self._folder = folder
        self._limit = max_upload_bytes()
        self._left = self._limit - sum(used)
        self._free = shutil.disk_usage(folder).free - SPARE_BYTES

    def take_file(self) -> None:
        """Count a file that is about to be written."""
        with self._lock:
            self._files += 1
            self._free = shutil.disk_usage(self._folder).free - SPARE_BYTES
            if self._files > MAX_FILES:
                raise DatasetError(f"expected at most {MAX_FILES:,} files, got more; upload the data set in parts")

    def take(self, nbytes: int) -> None:
        """Count bytes that are about to be written, or were removed again."""
        with self._lock:
            self._left -= nbytes
            self._free -= nbytes
        if nbytes < 0:
            return
        if self._left < 0:
            raise DatasetError(
                f"expected at most {format_bytes(self._limit)}, got more; copy the data into the data root instead, or "
                "raise SEGMENTARIUM_MAX_UPLOAD_GB"
            )
        if self._free < 0:
            raise DatasetError("expected room on the disk of the data root, got too little; free some space")


def _check_entries(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive by the list of its files, before anything is written."""
    if len(entries) > MAX_FILES:
        raise DatasetError(f"expected at most {MAX_FILES:,} files, got {len(entries):,}; pack it in parts")
    for entry in entries:
        mode = entry.external_attr >> 16
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or not stat.S_IFMT(mode)):
            raise DatasetError(
                f"expected files, got a link or device: {entry.filename[:120]!r}; pack the files themselves"
            )
        if entry.flag_bits & 1:
            raise DatasetError("expected an archive without a password, got an encrypted one; pack it without")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DatasetError(
                f"expected files that are stored or deflated, got another compression: {entry.filename[:120]!r}; pack "
                "it again as a plain ZIP archive"
            )
        if entry.file_size > max(entry.compress_size, 1) * MAX_DEFLATE_RATIO:
            raise DatasetError(f"{entry.filename[:120]!r} states a size that it cannot have; pack it again")
    total, size = sum(entry.file_size for entry in entries), archive.stat().st_size
    if total > max_upload_bytes():
        raise DatasetError(
            f"expected at most {format_bytes(max_upload_bytes())} unpacked, got {format_bytes(total)}; copy the data "
            "into the data root instead, or raise SEGMENTARIUM_MAX_UPLOAD_GB"
        )
    if total > ARCHIVE_BOMB_BYTES and total > size * ARCHIVE_BOMB_RATIO:
        raise DatasetError(
            f"expected a data set, got {format_bytes(total)} packed to {format_bytes(size)}, which looks like "
            "a decompression bomb; if it is a data set, unpack it and upload its files"
        )


def _pieces(packed: object) -> Iterator[bytes]:
    read = packed.read  # type: ignore[attr-defined]
    while piece := read(PIECE_BYTES):
        yield piece


def _folder(root: Path, id: str) -> Path:
    folder = root / FOLDER / id
    if not _ID.fullmatch(id) or not folder.is_dir():
        raise DatasetError("expected an upload that was begun, found none; begin it again")
    return folder


def _folder_name(name: str) -> str:
    """A name for a folder: visible, without separators and characters with a meaning in shells or file systems."""
    stem = re.sub(r"\.zip$", "", name, flags=re.IGNORECASE)
    stem = re.sub(r'[\x00-\x1f\x7f<>:"|?*/\\]+', "_", unicodedata.normalize("NFC", stem)).strip(" .-_")
    return stem.encode()[:120].decode(errors="ignore") or "upload"
