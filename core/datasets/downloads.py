"""Public data sets that can be downloaded, described in ``downloads.toml``, and how one gets into the data root.

Archives are kept in a hidden folder of the data root until all are complete and unpacked; the data set then appears at
once. What was fetched before an interruption is not fetched again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from core.datasets.resumed_download import FetchProgress, fetch
from core.datasets.uploaded_sets import PIECE_BYTES, SPARE_BYTES, is_of_system, safe_path, unpack
from core.errors import DatasetError
from core.file_locks import try_lock
from core.files import sync_folder
from core.formatting import format_bytes

DESCRIPTIONS = Path(__file__).with_name("downloads.toml")
FOLDER = ".downloads"  # in the data root, of what is incomplete


@dataclass(frozen=True)
class DownloadFile:
    """An archive of a data set.

    Attributes
    ----------
    url : str. Its address.
    checksum : str. Published checksum, "md5:..." or "sha256:..."; empty where none is known: then the size that the
        server states and the archive itself are verified.
    into : str. Folder of the data set into which it is unpacked; empty for the data set itself.
    """

    url: str
    checksum: str = ""
    into: str = ""

    @property
    def name(self) -> str:
        """File name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Download:
    """A data set that can be downloaded.

    Attributes
    ----------
    name, title : str. Key and title.
    licence : str. Licence, shown before anything is fetched.
    source : str. Page of the publisher.
    size_gb : float. About, of all files.
    folder : str. Name of its folder in the data root.
    files : tuple of DownloadFile. Its archives.
    """

    name: str
    title: str
    licence: str
    source: str
    size_gb: float
    folder: str
    files: tuple[DownloadFile, ...]

    @property
    def verified(self) -> str:
        """What is verified of its files, as text."""
        kinds = sorted({file.checksum.partition(":")[0].upper() for file in self.files if file.checksum})
        if all(file.checksum for file in self.files):
            return f"the published checksum ({', '.join(kinds)})"
        return "the size that the server states, and that the archive is intact: no checksum is published"


@cache
def known_downloads() -> Mapping[str, Download]:
    """The data sets that can be downloaded, by name."""
    import tomllib

    content: dict[str, dict[str, Any]] = tomllib.loads(DESCRIPTIONS.read_text("utf-8"))
    return {
        name: Download(name=name, **{**entry, "files": tuple(DownloadFile(**file) for file in entry["files"])})
        for name, entry in content.items()
    }


def find_download(name: str) -> Download:
    """The download of a name.

    Raises
    ------
    DatasetError
        If there is none.
    """
    known = known_downloads()
    if name not in known:
        raise DatasetError(f"expected one of {', '.join(known)}; got {name!r}; where to get others: data layouts NAME")
    return known[name]


def download(wanted: Download, root: Path, progress: FetchProgress | None = None) -> Path:
    """Fetch, verify and unpack a data set into a data root; returns its folder.

    Parameters
    ----------
    wanted : Download. The data set.
    root : Path. Data root, made if missing.
    progress : callable, optional. Called with (bytes done, bytes of the file) while a file is fetched, then with its
        size and what is done with it.

    Raises
    ------
    DatasetError
        If it is there already, or being downloaded; if it cannot be reached or is cut off too often, where what was
        received is kept; if it is not what was published, or there is no room.
    """
    target = root / wanted.folder
    if os.path.lexists(target):
        raise DatasetError(f"{target}: expected a free name, got a file or folder: is the data set there already?")
    folder = root / FOLDER / wanted.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "a+b") as lock:
            if not try_lock(lock):
                raise DatasetError(f"{wanted.title}: another process downloads it into {root}; wait for it")
            archives = [_complete_file(file, folder, progress) for file in wanted.files]
            unpacked = folder / "unpacked"
            shutil.rmtree(unpacked, ignore_errors=True)
            for file, archive in zip(wanted.files, archives, strict=True):
                _report(progress, archive, "unpacking")
                _unpack(archive, unpacked / file.into)
            content = [path for path in unpacked.iterdir() if not is_of_system(path.name)]
            single = content[0] if len(content) == 1 and content[0].is_dir() and not wanted.files[0].into else unpacked
            os.rename(single, target)
            sync_folder(root)
    except OSError as error:
        raise DatasetError(
            f"{root}: {wanted.title} cannot be written there: {error.strerror or error}; free some space, or choose "
            "another place with SEGMENTARIUM_DATA"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    return target


def _complete_file(file: DownloadFile, folder: Path, progress: FetchProgress | None) -> Path:
    """The archive in the folder, fetched unless it lies there, and compared with its checksum."""
    path = folder / file.name
    if not path.is_file():
        fetch(file.url, path, progress)
    if file.checksum:
        _report(progress, path, "verifying")
        kind, _, expected = file.checksum.partition(":")
        with open(path, "rb") as opened:
            found = hashlib.file_digest(opened, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
        if found != expected.lower():
            path.unlink()
            raise DatasetError(
                f"{file.url}: expected a file with the {kind.upper()} {expected}, got {found}: it was damaged on the "
                "way, or changed by its publisher; it is removed, so begin again"
            )
    return path


def _report(progress: FetchProgress | None, archive: Path, text: str) -> None:
    if progress is not None:
        size = archive.stat().st_size
        progress(size, size, text)


def _unpack(archive: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        unpack(archive, target)
    else:
        _unpack_tar(archive, target)


def _unpack_tar(archive: Path, target: Path) -> None:
    """Unpack an uncompressed or gzipped TAR archive; links, devices and paths that leave the folder are refused."""
    try:
        with tarfile.open(archive) as source:
            for member in source:
                name = re.sub(r"^(\./)+", "", member.name).rstrip("/")
                if name in ("", ".") or is_of_system(name):
                    continue
                path = target / safe_path(name)
                if member.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                packed = source.extractfile(member) if member.isfile() else None
                if packed is None:
                    raise DatasetError(f"expected files, got a link or device: {name[:120]!r}")
                _refuse_full_disk(archive, target, member.size)
                path.parent.mkdir(parents=True, exist_ok=True)
                with packed, open(path, "xb") as file:
                    shutil.copyfileobj(packed, file, PIECE_BYTES)
    except DatasetError as error:
        raise DatasetError(f"{archive.name}: {error}") from None
    except (tarfile.TarError, EOFError, FileExistsError) as error:
        raise DatasetError(
            f"{archive.name}: expected a TAR archive, got a damaged one ({error}); remove {archive} and begin again"
        ) from None


def _refuse_full_disk(archive: Path, folder: Path, nbytes: int) -> None:
    if shutil.disk_usage(folder).free - SPARE_BYTES < nbytes:
        raise DatasetError(
            f"expected room for {format_bytes(nbytes)} more on the disk of the data root, got too little; free some "
            f"space: {archive} is complete and is not fetched again"
        )
