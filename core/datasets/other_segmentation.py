"""Reads a segmentation of a subject beside the label map of its data set: of a model, another rater, or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.datasets.layouts.base import Dataset
from core.datasets.loading import align_label
from core.errors import DatasetError, VolumeError
from core.formatting import format_list
from core.imaging.headers import Header
from core.imaging.segments import SegmentValues, segment_key
from core.imaging.volume import read_label
from core.labels import LabelSpace


@dataclass(frozen=True)
class OtherSegmentation:
    """A segmentation on the grid of a subject's image.

    Attributes
    ----------
    index : ndarray, uint8, shape (i, j, k). Class indices; :data:`core.labels.IGNORE_INDEX` where ignored.
    warnings : tuple of str. What was assumed about the file.
    """

    index: np.ndarray
    warnings: tuple[str, ...]


def read_other_segmentation(dataset: Dataset, subject: str, file: Path, labels: LabelSpace) -> OtherSegmentation:
    """Read a segmentation of a subject; nothing is resampled.

    Parameters
    ----------
    dataset : Dataset. Data set of the subject.
    subject : str. Subject id.
    file : Path. The segmentation, on the grid of the subject's first image, in any order of axes.
    labels : LabelSpace. Its classes and their raw values; named segments (DICOM) are matched by name.

    Raises
    ------
    VolumeError
        If its voxels are not those of the image, or it cannot be read.
    DatasetError
        If the subject is unknown or has no image, or the file has values without a class.
    """
    header = align_label(dataset, dataset.subject(subject), file)
    raw = read_label(file, geometry=header.geometry, segments=_segment_values(header, dataset, labels))
    return OtherSegmentation(other_index(dataset, file, labels, raw.data[0]), (*header.warnings, *raw.warnings))


def other_index(dataset: Dataset, file: Path, labels: LabelSpace, raw: np.ndarray) -> np.ndarray:
    """Class indices of raw values of such a file; values that the data set merges into a class may occur.

    Raises
    ------
    DatasetError
        If there are values without a class.
    """
    try:
        return dataset.to_index(raw) if labels == dataset.labels else labels.to_index(raw)
    except DatasetError as error:
        raise DatasetError(f"{file}: {error}; write the label values of {dataset.name} into it") from None


def _segment_values(header: Header, dataset: Dataset, labels: LabelSpace) -> SegmentValues | None:
    """Values of named segments (DICOM), by the names of the classes; ``None`` for a file of numbers.

    Raises
    ------
    VolumeError
        If no segment has the name of a class.
    """
    if header.segments is None:
        return None
    values = {**dataset.segments, **{segment_key(c.name): c.raw for c in labels.foreground}}
    if not {segment_key(name) for name in header.segments.names} & values.keys():
        classes = format_list([c.name for c in labels.foreground])
        raise VolumeError(
            f"{header.path}: expected segments named as classes ({classes}), got {format_list(header.segments.names)}"
        )
    return SegmentValues(values, dataset.later_mask_wins)
