"""Folders of data: the data sets in the data root, that nobody is led out of it, and what a model was trained on."""

from __future__ import annotations

import os
from pathlib import Path

from core.checkpointing.metadata import Description
from core.datasets import open_dataset
from core.errors import DatasetError
from core.paths import demo_folder

DEPTH = 2  # data sets are looked for in the root's folders and in theirs
MOST_FOLDERS = 300


def inside(root: Path, text: str) -> Path:
    """The folder that somebody named, relative to the data root or absolute.

    Links that the owner of the root put there are followed; ``..`` and absolute paths cannot leave the root.

    Raises
    ------
    DatasetError
        If it is outside of the root or no folder.
    """
    root = Path(os.path.abspath(root))
    path = Path(os.path.normpath(root / os.path.expanduser(text.strip())))
    if not path.is_relative_to(root):
        raise DatasetError(
            f"expected a folder inside {root}, got {text!r}; move or link the data there, or start the app with "
            "SEGMENTARIUM_DATA set to another folder"
        )
    if not path.is_dir():
        raise DatasetError(f"expected a folder, found none at {path}")
    return path


def data_sets(root: Path) -> list[Path]:
    """The folders under the data root that a layout recognises, in order of their names; empty without a root."""
    found: list[Path] = []
    for folder in _folders(root, DEPTH):
        if any(folder.is_relative_to(known) for known in found):
            continue
        try:
            open_dataset(folder)
        except DatasetError:
            continue
        found.append(folder)
    return found


def own_data(description: Description) -> Path | None:
    """The folder that a model was trained on, where it is still there; the demo data may have been made elsewhere."""
    if description.dataset.get("synthetic"):
        return demo_folder()
    path = Path(str(description.dataset.get("path") or ""))
    return path if path.is_absolute() and path.is_dir() else None


def label(root: Path, path: Path) -> str:
    """How a data set is called on screen: its path below the root."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _folders(root: Path, depth: int) -> list[Path]:
    """Folders under a root, parents before children, hidden ones left out, a bounded number."""
    level, found = [root], []
    for _ in range(depth):
        children: list[Path] = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    children += [Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")]
            except OSError:
                continue  # unreadable: not ours to offer
        level = sorted(children)[:MOST_FOLDERS]
        found += level
    return found[:MOST_FOLDERS]
