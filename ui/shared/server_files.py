"""Images below a folder of the server, for lists to choose from."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from core.datasets.layouts.base import natural_key
from core.datasets.layouts.files import is_image_name
from core.imaging.image_files import VOXEL_SUFFIXES, holds_dicom_images

MAX_LISTED_FILES = 2000
MAX_DEPTH = 5  # levels of folders below the root that are searched for images


@st.cache_data(ttl=20, show_spinner=False)
def images_below(root: str, or_labels: bool = False) -> list[Path]:
    """Images below a folder, and folders with DICOM series, in natural order, at most ``MAX_LISTED_FILES``; for a pair
    of header and voxels the header.

    Parameters
    ----------
    root : str. The folder.
    or_labels : bool. Whether to list folders, too, that hold only DICOM segmentations or contours.
    """
    images: list[Path] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        depth = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if depth < MAX_DEPTH else []
        visible = (name for name in sorted(names) if not name.startswith("."))
        images += [
            Path(folder) / name for name in visible if is_image_name(name) and not name.lower().endswith(VOXEL_SUFFIXES)
        ]
        if holds_dicom_images(Path(folder), names, or_labels):
            images.append(Path(folder))
        if len(images) >= MAX_LISTED_FILES:
            break
    return sorted(images[:MAX_LISTED_FILES], key=lambda path: natural_key(str(path)))


def listed_name(path: Path, root: Path) -> str:
    """Name on screen of an image below a folder; of a DICOM series, its folder with a slash."""
    name = os.path.relpath(path, root)
    return name if is_image_name(path.name) else f"{name}{os.sep} (DICOM)"
