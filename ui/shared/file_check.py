"""Check of the voxels of an uploaded file, so that what is wrong with it is said before it is segmented."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from core.errors import UserError
from core.files import FileStamp, file_stamp
from core.imaging.headers import read_header
from core.imaging.volume import read_image
from ui.shared.heavy_work import heavy_work

MAX_VALUES = 200_000_000  # of larger files only the header is checked: reading takes long, and the job says the same


@dataclass(frozen=True)
class CheckedVoxels:
    """What the voxels of a file are like.

    Attributes
    ----------
    fault : str. Why it cannot be segmented; empty if it can be.
    nan_voxels : int. Values that are NaN.
    """

    fault: str = ""
    nan_voxels: int = 0


def check_voxels(path: Path) -> CheckedVoxels:
    """The check of a file; done once for each."""
    return _check_voxels(str(path), file_stamp(path))


@st.cache_data(max_entries=500, show_spinner="Checking the file")
def _check_voxels(path: str, stamp: FileStamp) -> CheckedVoxels:
    try:
        header = read_header(path)
        if math.prod(header.shape) * header.channels > MAX_VALUES:
            return CheckedVoxels()
        with heavy_work():
            volume = read_image(path, nan_is_zero=True)
            low, high = volume.data.min(), volume.data.max()
    except UserError as error:
        return CheckedVoxels(str(error))
    if low == high:
        return CheckedVoxels(f"{path}: expected an image, got {low:g} in every voxel; is it the right file?")
    return CheckedVoxels(nan_voxels=volume.nan_voxels)
