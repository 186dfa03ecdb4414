"""Short hashes of texts and files, as names of cached results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from core.files import NO_FILE, file_stamp
from core.imaging.image_files import files_of

LENGTH = 16  # hexadecimal digits


def short_hash(text: str) -> str:
    """A folder name for any text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:LENGTH]


def files_hash(prefix: str, files: Sequence[Path], with_stat: bool = True) -> str:
    """A folder name for a list of files.

    Parameters
    ----------
    prefix : str. Other parameters that the result depends on.
    files : sequence of Path. Image files.
    with_stat : bool. Whether the hash changes with size and modification time of all files of these images
        (:func:`core.imaging.image_files.files_of`).
    """
    digest = hashlib.sha256(prefix.encode("utf-8", "surrogateescape"))
    for path in files:
        for part in files_of(path) if with_stat else (path,):
            size, mtime_ns = file_stamp(part) if with_stat else NO_FILE
            digest.update(f"{part}\0{size}\0{mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:LENGTH]
