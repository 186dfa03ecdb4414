"""Reads the label map of a subject: a file with a value or a channel for each class, or a mask file for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.datasets.layouts.base import Dataset, Subject
from core.errors import DatasetError, VolumeError
from core.formatting import format_count
from core.imaging.geometry import Geometry
from core.imaging.headers import read_header
from core.imaging.segments import SegmentValues
from core.imaging.volume import Volume, read_label, read_one_hot

WRONG_VALUE_REMEDY = "correct the file or the list of labels, or leave a value out with --ignore VALUE"


def read_label_values(dataset: Dataset, subject: Subject, geometry: Geometry) -> Volume:
    """Read a label map of a data set: one with a channel for each class (one-hot), or a mask file for each, as one
    value per voxel.

    Such channels are the classes in the order of the data set's list, with the background in front or left out.

    Parameters
    ----------
    dataset, subject : Dataset and Subject. The data set, and a subject with a label map.
    geometry : Geometry. Geometry of the label map after alignment with the first image.

    Returns
    -------
    Volume. int32 raw values, shape (1, i, j, k); a warning where they were channels.

    Raises
    ------
    VolumeError
        If the file cannot be read, values are not whole numbers, channels are not one-hot, or masks overlap.
    """
    path = subject.label
    assert path is not None
    masks = dataset.masks_of(path)
    if masks:
        return _read_masks(dataset, masks, geometry)
    channels = read_header(path).channels
    if channels == 1:
        nearest = dataset.raw_label_values if subject.id in dataset.recipe.nearest_label else ()
        named = SegmentValues(dataset.segments, dataset.later_mask_wins) if dataset.segments else None
        return read_label(path, geometry=geometry, nan_is_zero=dataset.nan_is_zero, nearest=nearest, segments=named)
    classes = dataset.labels.classes[len(dataset.labels) - channels :]
    one_hot = read_one_hot(path, geometry=geometry, nan_is_zero=dataset.nan_is_zero)
    background = one_hot.data[0] if channels == len(dataset.labels) else None
    empty = int(np.count_nonzero(~one_hot.data.any(axis=0))) if background is not None else 0
    if empty:
        raise VolumeError(
            f"{path}: expected 1 channel, or 0 and 1 in a channel for each class (one-hot), got {channels} channels of "
            f"which none is 1 in {format_count(empty, 'voxel')}; write one label per voxel"
        )
    if background is not None and background.sum() < max(map(np.count_nonzero, one_hot.data[1:])):
        raise VolumeError(
            f"{path}: expected the background in the first of {channels} one-hot channels, got a smaller class than "
            "another one; write one label per voxel"
        )
    raw = np.zeros(one_hot.data.shape[1:], np.int32) + dataset.labels.classes[0].raw
    for channel, c in zip(one_hot.data, classes, strict=True):
        raw[channel == 1] = c.raw
    names = ", ".join(c.name for c in classes)
    warning = (
        f"{channels} channels hold 0 and 1 (one-hot): read as the classes {names}, in this order; "
        "write one label per voxel if the order is another one"
    )
    return replace(one_hot, data=raw[None], warnings=(warning,))


def read_label_index(dataset: Dataset, subject: Subject, geometry: Geometry) -> tuple[np.ndarray, Volume]:
    """Class indices, uint8, shape (i, j, k), of the label map of a subject, and its raw values; parameters as for
    :func:`read_label_values`.

    Raises
    ------
    DatasetError
        If there are values that are no class.
    VolumeError
        As for :func:`read_label_values`.
    """
    raw = read_label_values(dataset, subject, geometry)
    try:
        return dataset.to_index(raw.data[0]), raw
    except DatasetError as error:
        raise DatasetError(f"{subject.label}: {error}; {WRONG_VALUE_REMEDY}") from None


def one_hot_channels(dataset: Dataset) -> tuple[int, ...]:
    """Numbers of channels that a label map may have with a channel for each class, with or without the background."""
    return tuple(n for n in (len(dataset.labels), len(dataset.labels.foreground)) if n > 1)


def _read_masks(dataset: Dataset, masks: Mapping[Path, int], geometry: Geometry) -> Volume:
    """Masks of classes, files with 0 and one other value, as one value per voxel."""
    read: Volume | None = None
    names = {c.raw: c.name for c in dataset.labels.foreground}
    for path, value in masks.items():
        mask = read_label(path, geometry=geometry, nan_is_zero=dataset.nan_is_zero)
        inside = mask.data != 0
        if inside.any() and np.ptp(mask.data[inside]):
            raise VolumeError(
                f"{path}: expected a mask, 0 and one other value, got {np.unique(mask.data)[:6].tolist()}; name one "
                "label map instead of masks if it holds several classes"
            )
        if read is None:
            read = replace(mask, data=np.where(inside, np.int32(value), np.int32(0)))
            continue
        taken = inside & (read.data != 0)
        if taken.any() and not dataset.later_mask_wins:
            other = names.get(int(read.data[taken][0]), "another class")
            raise VolumeError(
                f"{path}: expected masks that do not overlap, got {format_count(int(taken.sum()), 'voxel')} of {other} "
                'too; decide which class these have, or describe the data set with overlap = "later"'
            )
        read.data[inside] = value
        read = replace(read, nan_voxels=read.nan_voxels + mask.nan_voxels, warnings=(*read.warnings, *mask.warnings))
    assert read is not None, "a subject with masks has at least one"
    return read
