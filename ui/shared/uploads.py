"""Uploaded files: written to a folder of the session in the cache, removed when they are no longer needed.

Each upload has a numbered folder of its own, so that its name can stay, and two of one name are two files.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import streamlit as st

from core.datasets.uploaded_sets import unpack
from core.errors import DatasetError, UserError, VolumeError
from core.imaging.file_kinds import PREFIX_BYTES, identify, is_dicom
from core.imaging.headers import SUFFIXES
from core.imaging.image_files import foreign_format, partner_of
from ui.shared.addresses import BROWSER_COOKIE
from ui.shared.formatting import plain
from ui.shared.hashes import short_hash
from ui.shared.paths import cache_root
from ui.shared.query_params import query_params
from ui.shared.state import UPLOADS

ARCHIVE, DICOM = ".zip", ".dcm"
HEADERS = (".nhdr", ".mhd")  # their voxels are in a file that is no image by its name, and would be refused
IMAGES = (*(suffix for suffix in SUFFIXES if suffix not in HEADERS), DICOM, ARCHIVE)
MODELS = (".safetensors",)
ACCEPTED = {  # descriptions of the accepted formats, by suffixes
    IMAGES: "NIfTI (.nii, .nii.gz) and NIfTI or Analyze pairs (.hdr with .img), MGH (.mgh, .mgz), NRRD (.nrrd), "
    "MetaImage (.mha), and DICOM series, as their files or as a ZIP file of them",
    MODELS: "a checkpoint (.safetensors)",
}
LIMIT_MB = 400  # of one file, as in .streamlit/config.toml
MAX_AGE_S = 6 * 3600.0  # since the last visit of a session
MAX_STEM_BYTES = 180  # a file name has at most 255
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*/\\]+')  # characters with a meaning in file systems or shells

_TAB = re.compile("[0-9a-f]{8}")

# Session keys.
SESSION_ID = "uploads_of_tab"
NO_COOKIE = "uploads_without_cookie"  # stands for the browser where it keeps no cookie
GONE = "uploads_gone"
UPLOADER_ROUND = "upload_round"
REFUSED = "refused_uploads"


def uploader(label: str, suffixes: Sequence[str], help: str) -> None:
    """Render a file uploader; files are written to disk at once, so that the server does not keep them in memory. The
    next run of the page finds the last one with :func:`take_latest`.

    A file of another kind is refused with what it is and what is accepted; the browser's own refusal would not say it.
    """
    round_key = f"{UPLOADER_ROUND}-{suffixes[0]}"  # an upload of a model leaves the uploader of images alone
    uploader_round = st.session_state.setdefault(round_key, 0)
    key = f"{round_key}-{uploader_round}"
    files = st.file_uploader(label, None, accept_multiple_files=True, key=key, help=help)
    refused_key = f"{REFUSED}-{suffixes[0]}"
    if files:
        refusals = []
        for file in files:
            try:
                series = f"DICOM series {uploader_round + 1}"  # files that are uploaded together are one
                st.session_state[_latest_key(suffixes)] = save(file.name, file, suffixes, series)
            except UserError as error:
                refusals.append(str(error))
        st.session_state[refused_key] = refusals
        st.session_state[round_key] = uploader_round + 1  # a new, empty uploader: the old one keeps all bytes
        st.rerun()
    for refusal in st.session_state.get(refused_key, ()):
        st.error(plain(refusal), icon=":material/error:")


def take_latest(suffixes: Sequence[str]) -> Path | None:
    """The file of the last upload, on the first call after it; ``None`` otherwise."""
    latest: Path | None = st.session_state.pop(_latest_key(suffixes), None)
    return latest


def save(name: str, content: IO[bytes], suffixes: Sequence[str], series: str = "DICOM series") -> Path:
    """Write an uploaded file into a new folder of the session; the other file of an Analyze pair to its partner, and
    the files of a DICOM series into one folder. An archive is unpacked.

    Parameters
    ----------
    name : str. File name as the browser sends it.
    content : binary file. Read from its start.
    suffixes : sequence of str. Accepted suffixes: :data:`IMAGES` or :data:`MODELS`.
    series : str. Name of the folder for DICOM files.

    Raises
    ------
    VolumeError
        If the name has none of the suffixes, or the file cannot be written.
    DatasetError
        If an archive is damaged, unsafe or too large.
    """
    if DICOM in suffixes and _suffix(name, suffixes) is None and is_dicom(_start(content)):
        name += DICOM  # DICOM files often have no suffix
    try:
        file_name = safe_name(name, suffixes)
    except VolumeError as error:
        kind = identify(content.read(PREFIX_BYTES))
        found = f", got {kind.name}; {kind.remedy}" if kind else ""
        raise VolumeError(f"{error}{found}. Accepted: {ACCEPTED[tuple(suffixes)]}.") from None
    path = _new_path(file_name, series)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, 2**20)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise VolumeError(
            f"{path.name}: expected space for the uploaded file, got: {error.strerror or error}; free some space"
        ) from error
    if file_name.lower().endswith(ARCHIVE):
        return _unpacked(path)
    return path.parent if file_name.lower().endswith(DICOM) else path


def list_uploads(suffixes: Sequence[str]) -> list[Path]:
    """Uploaded files of this session with one of the suffixes, and folders of DICOM series, as they were uploaded."""
    folder = session_folder()
    with contextlib.suppress(OSError):
        os.utime(folder)  # the session is active
    return [path for numbered in _numbered_folders() for path in _images_in(numbered, suffixes)]


def display_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name on screen for each uploaded file: its own, with a number where an earlier one has it already."""
    names: dict[Path, str] = {}
    for path in paths:
        suffix = _suffix(path.name, (*IMAGES, *MODELS)) or ""
        stem, number, name = path.name[: len(path.name) - len(suffix)], 1, path.name
        while name in names.values():
            number += 1
            name = f"{stem} ({number}){suffix}"
        names[path] = name
    return names


def remove(path: Path) -> None:
    """Remove an uploaded file of this session; both files of an Analyze pair, and all that an archive held."""
    folder = session_folder()
    if path.is_relative_to(folder) and path != folder:
        shutil.rmtree(folder / path.relative_to(folder).parts[0], ignore_errors=True)


def is_uploaded(path: Path) -> bool:
    """Whether a file is in the folder of uploads."""
    return path.is_relative_to(_root())


def remove_stale() -> None:
    """Remove the files of sessions that have been inactive for some hours."""
    try:
        folders = list(_root().iterdir())
    except OSError:
        return
    for folder in folders:
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > MAX_AGE_S:
                shutil.rmtree(folder, ignore_errors=True)


def safe_name(name: str, suffixes: Sequence[str]) -> str:
    """A file name without folders, control characters and characters with a meaning in file systems or shells; letters
    of all scripts and spaces stay.

    Raises
    ------
    VolumeError
        If the name has none of the suffixes.
    """
    base = name.replace("\\", "/").rpartition("/")[2]
    suffix = _suffix(base, suffixes)
    if suffix is None:
        raise VolumeError(f"{base[:80]}: expected a file ending in {', '.join(suffixes)}")
    stem = base[: len(base) - len(suffix)].encode("utf-8", "replace").decode()
    stem = _UNSAFE.sub("_", unicodedata.normalize("NFC", stem)).strip().lstrip(".-")
    return (stem.encode()[:MAX_STEM_BYTES].decode(errors="ignore") or "file") + suffix


def restore_after_reload() -> None:
    """Find the uploads of this tab again after a reload, or say that they are gone (called before the page uses them).

    The address holds the number of the tab; only the browser that uploaded the files finds them by it.
    """
    given = query_params.get(UPLOADS, "")
    if SESSION_ID not in st.session_state and _TAB.fullmatch(given):
        st.session_state[SESSION_ID] = given
    if session_folder().is_dir():
        st.session_state.pop(GONE, None)
        if given != st.session_state[SESSION_ID]:
            query_params[UPLOADS] = st.session_state[SESSION_ID]
    elif given:
        st.session_state[GONE] = True
        del query_params[UPLOADS]
    if st.session_state.get(GONE):
        hours = round(MAX_AGE_S / 3600)
        st.info(
            f"The uploaded files are gone: they are kept for {hours} hours, in one browser. Upload them again.",
            icon=":material/search_off:",
        )


def session_folder() -> Path:
    """The folder of this tab's uploads."""
    tab = st.session_state.setdefault(SESSION_ID, secrets.token_hex(4))
    browser = st.context.cookies.get(BROWSER_COOKIE) or st.session_state.setdefault(NO_COOKIE, secrets.token_hex(16))
    return _root() / short_hash(f"{browser} {tab}")


def without_session_folder(message: str) -> str:
    """An error message in which uploaded files appear by name, without folders."""
    return re.sub(re.escape(f"{session_folder()}{os.sep}") + r"\d+" + re.escape(os.sep), "", message)


def _new_path(name: str, series: str) -> Path:
    """Path for an upload of this name: beside the other file of an incomplete Analyze pair, in the folder of its DICOM
    series, or in a new folder."""
    folders = _numbered_folders()
    if name.lower().endswith(DICOM):
        number = int(folders[-1].name) + 1 if folders else 1
        return next(
            (f / series / name for f in folders if (f / series).is_dir()),
            session_folder() / str(number) / series / name,
        )
    for folder in folders:
        if partner_of(folder / name) is not None and not (folder / name).exists():
            return folder / name
    number = int(folders[-1].name) + 1 if folders else 1
    return session_folder() / str(number) / name


def _start(content: IO[bytes]) -> bytes:
    start = content.read(PREFIX_BYTES)
    content.seek(0)
    return start


def _unpacked(archive: Path) -> Path:
    """The folder with the content of an archive, which is removed."""
    target = archive.with_suffix("")
    try:
        target.mkdir(exist_ok=True)
        unpack(archive, target)
        if not _images_in(target.parent, IMAGES[:-1]):
            raise DatasetError(
                f"{archive.name}: expected images in the archive, found none. Accepted: {ACCEPTED[IMAGES]}"
            )
    except DatasetError:
        shutil.rmtree(archive.parent, ignore_errors=True)
        raise
    archive.unlink()
    return target


def _images_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files with one of the suffixes in a folder and below; the files of a DICOM series are listed as their folder."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and DICOM in suffixes:
            is_series = foreign_format(path) == "dicom"
            found += [path] if is_series else []
            found += [p for p in _images_in(path, suffixes) if not (is_series and p.parent == path)]
        elif path.is_file() and _suffix(path.name, suffixes) and path.name.lower() != DICOM:
            found.append(path)
    return found


def _numbered_folders() -> list[Path]:
    """The folders of the session's uploads, in the order of uploading."""
    try:
        return sorted((f for f in session_folder().iterdir() if f.name.isdigit()), key=lambda f: int(f.name))
    except OSError:
        return []


def _suffix(name: str, suffixes: Sequence[str]) -> str | None:
    """The longest of the suffixes that a name ends with, in lower case."""
    return next((s for s in sorted(suffixes, key=len, reverse=True) if name.lower().endswith(s)), None)


def _root() -> Path:
    return cache_root() / "uploads"


def _latest_key(suffixes: Sequence[str]) -> str:
    return f"latest_upload-{suffixes[0]}"
