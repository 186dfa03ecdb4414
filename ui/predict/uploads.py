"""Uploaded files: written to a folder of the session in the cache, removed when they are no longer needed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import streamlit as st

from core.errors import VolumeError
from ui.shared.paths import cache_root

IMAGES = (".nii", ".nii.gz", ".hdr", ".img")
MODELS = (".safetensors",)
LIMIT_MB = 400  # of one file, as in .streamlit/config.toml
MAX_AGE_S = 6 * 3600.0  # since the last visit of a session
MAX_STEM_LENGTH = 100

# Session keys.
SESSION_ID = "uploads"
UPLOADER_ROUND = "upload_round"


def uploader(label: str, suffixes: Sequence[str], help: str) -> None:
    """Render a file uploader; files are written to disk at once, so that the server does not keep them in memory. The
    next run of the page finds the last one with :func:`take_latest`."""
    round_key = f"{UPLOADER_ROUND}-{suffixes[0]}"  # an upload of a model leaves the uploader of images alone
    uploader_round = st.session_state.setdefault(round_key, 0)
    key = f"{round_key}-{uploader_round}"
    files = st.file_uploader(label, list(suffixes), accept_multiple_files=True, key=key, help=help)
    if files:
        for file in files:
            st.session_state[_latest_key(suffixes)] = save(file.name, file, suffixes)
        st.session_state[round_key] = uploader_round + 1  # a new, empty uploader: the old one keeps all bytes
        st.rerun()


def take_latest(suffixes: Sequence[str]) -> Path | None:
    """The file that was uploaded just now, once."""
    latest: Path | None = st.session_state.pop(_latest_key(suffixes), None)
    return latest


def save(name: str, content: IO[bytes], suffixes: Sequence[str]) -> Path:
    """Write an uploaded file into the session's folder; a file of the same name is replaced.

    Raises
    ------
    VolumeError
        If the name has none of the suffixes, or the file cannot be written.
    """
    path = session_folder() / safe_name(name, suffixes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a result may hold a hard link to it
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, 2**20)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise VolumeError(
            f"{path.name}: expected space for the uploaded file, got: {error.strerror or error}; free some space"
        ) from error
    return path


def list_uploads(suffixes: Sequence[str]) -> list[Path]:
    """Uploaded files of this session with one of the suffixes, by name."""
    folder = session_folder()
    with contextlib.suppress(OSError):
        os.utime(folder)  # the session is active
    try:
        return sorted(path for path in folder.iterdir() if _suffix(path.name, suffixes))
    except OSError:
        return []


def remove(path: Path) -> None:
    """Remove an uploaded file of this session; both files of an Analyze pair."""
    for part in (path, analyze_partner(path)):
        if part is not None and part.parent == session_folder():
            part.unlink(missing_ok=True)


def analyze_partner(path: Path) -> Path | None:
    """The other file of an Analyze pair; ``None`` for any other file."""
    suffix = {".hdr": ".img", ".img": ".hdr"}.get(path.suffix)
    return path.with_suffix(suffix) if suffix else None


def is_uploaded(path: Path) -> bool:
    """Whether a file is in the folder of uploads."""
    return path.is_relative_to(_root())


def sweep() -> None:
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
    """A file name of ASCII letters, digits, dots, dashes and underscores.

    Different names stay different, and the two files of an Analyze pair keep a common stem.

    Raises
    ------
    VolumeError
        If the name has none of the suffixes.
    """
    base = name.replace("\\", "/").rpartition("/")[2]
    suffix = _suffix(base, suffixes)
    if suffix is None:
        raise VolumeError(f"{base[:80]}: expected a file ending in {', '.join(suffixes)}")
    stem = base[: len(base) - len(suffix)]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip(".-_")[:MAX_STEM_LENGTH]
    if plain != stem or not plain:
        plain = f"{plain or 'file'}-{hashlib.sha256(stem.encode('utf-8', 'replace')).hexdigest()[:6]}"
    return plain + suffix


def session_folder() -> Path:
    """The folder of this session's uploads."""
    return _root() / str(st.session_state.setdefault(SESSION_ID, secrets.token_hex(8)))


def without_session_folder(message: str) -> str:
    """An error message in which uploaded files appear by name, without folders."""
    return message.replace(f"{session_folder()}{os.sep}", "")


def _suffix(name: str, suffixes: Sequence[str]) -> str | None:
    """The longest of the suffixes that a name ends with, in lower case."""
    return next((s for s in sorted(suffixes, key=len, reverse=True) if name.lower().endswith(s)), None)


def _root() -> Path:
    return cache_root() / "uploads"


def _latest_key(suffixes: Sequence[str]) -> str:
    return f"latest_upload-{suffixes[0]}"
