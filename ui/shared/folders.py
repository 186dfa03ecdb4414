"""Folders of data sets: those in the data root, and the one a model was trained on."""

from __future__ import annotations

import os
from pathlib import Path

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets.registry import open_recognised
from core.errors import DatasetError
from core.paths import demo_folder

DEPTH = 2  # levels of folders below the root that are searched
MAX_FOLDERS = 300


def resolve_inside(root: Path, text: str) -> Path:
    """The folder of a path that a user typed, relative to the data root or absolute.

    ``..`` and absolute paths cannot leave the root; symbolic links in the root are followed.

    Raises
    ------
    DatasetError
        If the path is outside the root or not a folder.
    """
    path = _inside(root, text, "a folder")
    if not os.path.isdir(path):  # also of a name that is too long
        raise DatasetError(f"expected a folder, found none at {path}")
    return path


def file_inside(root: Path, text: str) -> Path:
    """The file of a path that a user typed, in the way of :func:`resolve_inside`.

    Raises
    ------
    DatasetError
        If the path is outside the root or not a file.
    """
    path = _inside(root, text, "a file")
    if not os.path.isfile(path):
        raise DatasetError(f"expected a file, found none at {path}")
    return path


def _inside(root: Path, text: str, noun: str) -> Path:
    root = Path(os.path.abspath(root))
    path = Path(os.path.normpath(root / os.path.expanduser(text.strip())))
    if not path.is_relative_to(root):
        raise DatasetError(
            f"expected {noun} inside {root}, got {text!r}; move or link the data there, or start the app with "
            "SEGMENTARIUM_DATA set to another folder"
        )
    return path


def find_datasets(root: Path) -> list[Path]:
    """Folders below the data root that a layout recognises, sorted by name; none if the root is missing."""
    found: list[Path] = []
    for folder in _folders(root, DEPTH):
        if any(folder.is_relative_to(known) for known in found):
            continue
        try:
            dataset = open_recognised(folder)
        except DatasetError:
            continue
        if dataset is not None:
            found.append(folder)
    return found


def training_data_folder(metadata: CheckpointMetadata) -> Path | None:
    """The folder of the data set that a model was trained on; ``None`` if it no longer exists here.

    For the demo data it is the demo folder of this installation.
    """
    if metadata.dataset.get("synthetic"):
        return demo_folder()
    path = Path(str(metadata.dataset.get("path") or ""))
    return path if path.is_absolute() and path.is_dir() else None


def display_name(root: Path, path: Path) -> str:
    """The path of a data set relative to the root."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _folders(root: Path, depth: int) -> list[Path]:
    """Folders below a root, parents before children, at most ``MAX_FOLDERS``; hidden ones are left out."""
    level, found = [root], []
    for _ in range(depth):
        children: list[Path] = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    children += [Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")]
            except OSError:
                continue  # unreadable folders are not offered
        level = sorted(children)[:MAX_FOLDERS]
        found += level
    return found[:MAX_FOLDERS]
