"""Files that somebody uploads: written to a folder of the session in the cache, and removed when no longer needed."""

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
from ui.shared.state import UPLOAD_ROUND, UPLOADS, cache_root

IMAGES = (".nii", ".nii.gz", ".hdr", ".img")
MODELS = (".safetensors",)
LIMIT_MB = 400  # of one file, as .streamlit/config.toml says
KEPT_S = 6 * 3600.0  # after the last visit of a session
LONGEST_NAME = 100


def uploader(label: str, kinds: Sequence[str], help: str) -> None:
    """Draw a place to drop files; what arrives is written down at once and leaves the server's memory."""
    turn = st.session_state.setdefault(UPLOAD_ROUND, 0)
    given = st.file_uploader(
        label, list(kinds), accept_multiple_files=True, key=f"{UPLOAD_ROUND}-{kinds[0]}-{turn}", help=help
    )
    if given:
        for file in given:
            take(file.name, file, kinds)
        st.session_state[UPLOAD_ROUND] = turn + 1  # an empty uploader: it would keep all bytes in memory
        st.rerun()


def take(name: str, content: IO[bytes], kinds: Sequence[str]) -> Path:
    """Write an uploaded file into the session's folder; one of the same name is replaced.

    Raises
    ------
    VolumeError
        If it is no file of these kinds, or cannot be written.
    """
    path = session_folder() / safe_name(name, kinds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a result may hold a link to it
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, 2**20)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise VolumeError(
            f"{path.name}: expected room to keep what was uploaded, it cannot be written: {error.strerror or error}"
        ) from error
    return path


def kept(kinds: Sequence[str]) -> list[Path]:
    """What this session has uploaded of these kinds, by name."""
    folder = session_folder()
    with contextlib.suppress(OSError):
        os.utime(folder)  # this session is alive
    try:
        return sorted(path for path in folder.iterdir() if _suffix(path.name, kinds))
    except OSError:
        return []


def remove(path: Path) -> None:
    """Remove one uploaded file, of an Analyze pair both."""
    for part in (path, partner(path)):
        if part is not None and part.parent == session_folder():
            part.unlink(missing_ok=True)


def partner(path: Path) -> Path | None:
    """The other file of an Analyze pair; ``None`` for any other file."""
    other = {".hdr": ".img", ".img": ".hdr"}.get(path.suffix)
    return path.with_suffix(other) if other else None


def is_uploaded(path: Path) -> bool:
    """Whether a file lies where uploads are written."""
    return path.is_relative_to(_root())


def sweep() -> None:
    """Remove what sessions left that have not been here for some hours."""
    try:
        folders = list(_root().iterdir())
    except OSError:
        return
    for folder in folders:
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)


def safe_name(name: str, kinds: Sequence[str]) -> str:
    """A file name of plain characters for whatever a browser says; two names stay two, and a pair stays a pair.

    Raises
    ------
    VolumeError
        If it does not end as one of these kinds.
    """
    base = name.replace("\\", "/").rpartition("/")[2]
    suffix = _suffix(base, kinds)
    if suffix is None:
        raise VolumeError(f"{base[:80]}: expected a file ending in {', '.join(kinds)}")
    stem = base[: len(base) - len(suffix)]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip(".-_")[:LONGEST_NAME]
    if plain != stem or not plain:
        plain = f"{plain or 'file'}-{hashlib.sha256(stem.encode('utf-8', 'replace')).hexdigest()[:6]}"
    return plain + suffix


def _suffix(name: str, kinds: Sequence[str]) -> str | None:
    """How a name ends, in lower case, if that is one of these kinds; the longest counts."""
    return next((kind for kind in sorted(kinds, key=len, reverse=True) if name.lower().endswith(kind)), None)


def _root() -> Path:
    return cache_root() / "uploads"


def session_folder() -> Path:
    """Where this session's files are written."""
    return _root() / str(st.session_state.setdefault(UPLOADS, secrets.token_hex(8)))
