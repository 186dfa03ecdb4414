"""Backup of a checkpoints root together with what the database alone holds, as one file, and its restoration.

The file is a tar archive: the files of the root below ``root/``, what exists in the database alone (the quiz answers)
as ``database.sqlite``, and as the last member ``manifest.json`` with the digest of every file. Running programs need
not be stopped: every file in a root is replaced at once or only appended to. The index of runs is not in it: it is made
again from the folders.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from core import __version__
from core.errors import RunError
from core.files import atomic_replace, file_stamp, remove_temporaries, temporary_beside
from core.hosts import host_name
from core.paths import CACHE
from core.runs.store import folder as files
from core.types import ProgressCallback

ROOT, DATABASE, MANIFEST = "root", "database.sqlite", "manifest.json"
FORMAT = 1
HIDDEN = (files.HIDDEN_NEW, files.HIDDEN_DELETED)
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Backup:
    """Content of a backup.

    Attributes
    ----------
    root : str. Id of the root.
    runs, files, bytes : int. Number of runs and files, and size of all files.
    rows : dict. Rows of each table that exists in the database alone.
    """

    root: str
    runs: int
    files: int
    bytes: int
    rows: dict[str, int]


def back_up(root: Path, file: Path, progress: ProgressCallback | None = None) -> Backup:
    """Write a root and what the database alone holds to a file, which is complete or not there.

    Parameters
    ----------
    root : Path. Checkpoints root.
    file : Path. The archive; replaced if it exists. It must not lie in the root.
    progress : callable, optional. Receives the bytes written and those of all files.

    Raises
    ------
    RunError
        If a file cannot be read, the archive cannot be written, or the database cannot be used.
    """
    from core.runs.store.database import sqlite_url
    from core.runs.store.root_id import root_id
    from core.runs.store.schema import KEPT
    from core.runs.store.transfer import copy_database

    if not root.is_dir():
        raise RunError(f"{root}: expected the folder of runs, found none; choose it with --checkpoints")
    if file.absolute().is_relative_to(root.absolute()):
        raise RunError(f"{file}: expected a file outside the root that is backed up, {root}")
    listed = list(_files_of(root))
    total, written, digests = sum(file_stamp(path).size for path in listed), 0, dict[str, str]()
    remove_temporaries(file.absolute().parent, file.name, of_living=False)  # of a backup that was killed
    try:
        with tempfile.TemporaryDirectory(prefix="segmentarium-backup-") as scratch, atomic_replace(file) as part:
            database = Path(scratch) / DATABASE
            copied = copy_database(_migrated(root), sqlite_url(database), KEPT)
            with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as archive:
                for path in listed:
                    name = f"{ROOT}/{path.relative_to(root).as_posix()}"
                    size = _add(archive, path, name, digests)
                    written += size
                    if progress is not None:
                        progress(written, total)
                _add(archive, database, DATABASE, digests)
                found = Backup(root_id(root), len(files.run_folders(root)), len(listed), written, copied.rows)
                _add_manifest(archive, Path(scratch), found, digests)
    except OSError as error:
        raise RunError(f"{error.filename or file}: cannot be backed up: {error.strerror or error}") from error
    return found


def restore(file: Path, root: Path, progress: ProgressCallback | None = None) -> Backup:
    """Make a root from a backup, with its quiz answers in the database that is in use now.

    The answers are in the database before the root is there, so that a kill at any instant leaves the complete root, or
    none, and the restoration can be repeated.

    Parameters
    ----------
    file : Path. The archive.
    root : Path. The root; it must not exist, or be empty.
    progress : callable, optional. Receives the bytes read and those of the archive.

    Raises
    ------
    RunError
        If the archive is damaged or not a backup, or the root is not empty. Nothing is then left behind.
    """
    from core.runs.store.database import database_url, sqlite_url
    from core.runs.store.index import open_index
    from core.runs.store.schema import KEPT
    from core.runs.store.transfer import copy_database

    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise RunError(f"{root}: expected a folder to restore to that is empty or does not exist; choose --checkpoints")
    root.absolute().parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(root.absolute().parent, root.name, of_living=False)  # of a restoration that was killed
    unpacked = temporary_beside(root.absolute())
    try:
        unpacked.mkdir()
        manifest = _unpack(file, unpacked, progress)
        (unpacked / ROOT).mkdir(exist_ok=True)  # of a root without files
        copy_database(sqlite_url(unpacked / DATABASE), database_url(unpacked / ROOT), KEPT)
        if root.exists():
            root.rmdir()
        os.replace(unpacked / ROOT, root)
        try:
            open_index(root).rebuild()
        except RunError:
            os.replace(root, unpacked / ROOT)
            raise
    except OSError as error:
        raise RunError(f"{error.filename or file}: cannot be restored: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return Backup(**manifest["content"])


def _migrated(root: Path) -> Any:
    """The URL of the database, which is made or brought up to date."""
    from core.runs.store.database import database_url
    from core.runs.store.index import open_index

    open_index(root)
    return database_url(root)


def _files_of(root: Path) -> Iterator[Path]:
    """The files of a root in the order of their names, without temporary ones and those that are made again from others
    or valid on this machine only."""
    from core.runs.store.database import FILE

    left_out = (CACHE, files.LOCK, FILE)
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(n for n in folders if n not in left_out and not n.startswith(HIDDEN))
        for name in sorted(names):
            path = Path(folder) / name
            if not name.endswith(".tmp") and not name.startswith(left_out) and path.is_file() and not path.is_symlink():
                yield path


class _Digesting:
    """Reader of a file that computes the SHA-256 of the bytes it has read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self.digest.update(content)
        return content


def _add(archive: tarfile.TarFile, path: Path, name: str, digests: dict[str, str]) -> int:
    """Add a file as it is at this moment; one that no longer exists is left out. Returns its bytes."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return 0
    with file:
        info = archive.gettarinfo(arcname=name, fileobj=file)
        info.type, info.linkname = tarfile.REGTYPE, ""  # a second name of the same file is a file again
        info.size = os.fstat(file.fileno()).st_size
        reading = _Digesting(file)
        archive.addfile(info, reading)
        digests[name] = reading.digest.hexdigest()
        return info.size


def _add_manifest(archive: tarfile.TarFile, scratch: Path, content: Backup, digests: dict[str, str]) -> None:
    manifest = {
        "format": FORMAT,
        "program": __version__,
        "host": host_name(),
        "made_at": time.time(),
        "content": content.__dict__,
        "sha256": digests,
    }
    path = scratch / MANIFEST
    path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    _add(archive, path, MANIFEST, {})


def _unpack(file: Path, target: Path, progress: ProgressCallback | None) -> dict[str, Any]:
    """Unpack an archive and compare all digests; returns the manifest.

    Raises
    ------
    RunError
        If it is not a complete backup.
    """
    found: dict[str, str] = {}
    total, manifest = file.stat().st_size, None
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                source = archive.extractfile(member)
                name = Path(member.name)
                if source is None or name.is_absolute() or ".." in name.parts:
                    raise RunError(f"{file}: expected a backup, which holds plain files only, got {member.name!r}")
                if member.name == MANIFEST:
                    manifest = json.loads(source.read())
                    continue
                reading = _Digesting(source)
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as output:
                    while block := reading.read(_BLOCK):
                        output.write(block)
                os.utime(path, (member.mtime, member.mtime))
                found[member.name] = reading.digest.hexdigest()
                if progress is not None:
                    progress(min(archive.offset, total), total)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise RunError(f"{file}: expected a backup made by `database backup`, got: {error}") from error
    if manifest is None or manifest.get("format") != FORMAT:
        raise RunError(f"{file}: expected a complete backup of format {FORMAT}, it has no such manifest at its end")
    if found != manifest["sha256"]:
        expected = manifest["sha256"]
        differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise RunError(
            f"{file}: damaged: {len(differing)} files differ from their digests, such as {differing[0]}; use another "
            "backup"
        )
    return dict(manifest)
