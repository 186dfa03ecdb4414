"""Writes a segmentation of a DICOM series as DICOM SEG, built in the process of ``core.imaging.decoder``."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from core import __version__
from core.errors import VolumeError
from core.files import atomic_write
from core.imaging.decoder import FORMATS_PIP
from core.imaging.dicom_writer import JOB_FILE, LABEL_FILE, OUTPUT_FILE
from core.imaging.foreign_files import BYTES_PER_S, ask_decoder
from core.imaging.geometry import Geometry, from_canonical
from core.imaging.image_files import foreign_format
from core.labels import LabelSpace

SUFFIX = ".dcm"
WRITE_S = 60.0  # longest time, beside that for the voxels; highdicom takes a second to import on an idle machine
VOXEL_BYTES = 24  # of memory that are read and written for each voxel, for the time that it may take


@dataclass(frozen=True)
class SegmentedSeries:
    """A DICOM series that was segmented.

    Attributes
    ----------
    path : Path. Its folder, or one of its files.
    channel : int. Channel of the image, from 0: of several slices at each position.
    stored : Geometry. Geometry of the series as stored.
    labels : LabelSpace. Classes of the segmentation.
    algorithm : str. Name of the network.
    """

    path: Path
    channel: int
    stored: Geometry
    labels: LabelSpace
    algorithm: str


def check_dicom_output(out: Path, image: Path) -> None:
    """Check, before the image is segmented, that a DICOM SEG of it can be written.

    Raises
    ------
    VolumeError
        If the image is no DICOM series, or highdicom is not installed.
    """
    if foreign_format(image) != "dicom":
        raise VolumeError(
            f"{out}: expected a DICOM series as the image, to which a DICOM segmentation refers, got {image}; write "
            "NIfTI (.nii.gz)"
        )
    if find_spec("highdicom") is None:
        raise VolumeError(f"{out}: expected highdicom to write DICOM SEG, it is not installed: {FORMATS_PIP}")


def write_dicom_segmentation(out: Path, index: np.ndarray, series: SegmentedSeries) -> None:
    """Write a DICOM SEG, atomically: a binary segment for each class, referring to the slices of the series.

    Parameters
    ----------
    out : Path. Ends in .dcm; an existing file is replaced.
    index : ndarray, uint8, shape (i, j, k). Class indices in canonical order.

    Raises
    ------
    VolumeError
        If the image is no DICOM series, lacks what a segmentation refers to, highdicom is not installed, or the file
        cannot be written.
    """
    check_dicom_output(out, series.path)
    array = from_canonical(np.asarray(index, np.uint8), series.stored)
    if array.shape != series.stored.shape:
        raise ValueError(f"expected labels of shape {series.stored.canonical.shape}, got {np.shape(index)}")
    job = {
        "shape": series.stored.shape,
        "channel": series.channel,
        "classes": [{"name": c.name, "colour": c.colour, "raw": c.raw} for c in series.labels.foreground],
        "algorithm": series.algorithm,
        "version": __version__,
    }
    try:
        with tempfile.TemporaryDirectory(prefix="segmentarium-") as name:
            folder = Path(name)
            (folder / JOB_FILE).write_text(json.dumps(job), "utf-8")
            array.ravel(order="F").tofile(folder / LABEL_FILE)
            limit_s = WRITE_S + array.size * VOXEL_BYTES / BYTES_PER_S
            ask_decoder({"path": str(series.path.absolute()), "kind": "dicom-writer", "folder": name}, limit_s)
            atomic_write(out, (folder / OUTPUT_FILE).read_bytes())
    except OSError as error:
        raise VolumeError(
            f"{out}: cannot be written: {error.strerror or error}; choose another place, or free some space"
        ) from error
