"""Reads one subject: images and label map, aligned in canonical orientation."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.datasets.layouts.base import Dataset, ImageRef, Subject
from core.datasets.subject_labels import one_hot_channels, read_label_index
from core.errors import DatasetError, VolumeError
from core.formatting import format_count
from core.imaging.alignment import align_to_first, in_common_unit
from core.imaging.geometry import Geometry, geometry_difference
from core.imaging.header_geometry import LengthUnit
from core.imaging.headers import Header, read_header
from core.imaging.segments import refuse_segments
from core.imaging.volume import Volume, read_image
from core.labels import IGNORE_INDEX


@dataclass(frozen=True)
class LoadedSubject:
    """One subject in memory.

    Attributes
    ----------
    id : str. Subject id.
    image : ndarray, float32, shape (channel, i, j, k). Intensities as in the files, canonical RAS.
    label : ndarray, uint8, shape (i, j, k), or None. Class indices; :data:`core.labels.IGNORE_INDEX` where ignored.
    geometry : Geometry. Canonical geometry of the arrays.
    stored : Geometry. Geometry of the first image's file.
    first_image : Path. File of the first image.
    nan_voxels : int. Values of all files whose NaN was read as 0.
    remarks : tuple of (Path, str). Notes and warnings on the headers, and what was done to label values, by file.
    absent : tuple of str. Modalities whose image is 0 in every voxel, since the subject has none.
    """

    id: str
    image: np.ndarray
    label: np.ndarray | None
    geometry: Geometry
    stored: Geometry
    first_image: Path
    nan_voxels: int = 0
    remarks: tuple[tuple[Path, str], ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubjectHeaders:
    """Headers of one subject's files; the first file is the first image.

    Attributes
    ----------
    headers : dict. Header by file.
    geometries : dict. Geometry by file, after alignment with the first image.
    notes : tuple of (Path, str). What is unusual in a file and harmless.
    warnings : tuple of (Path, str). What in a file may make a result wrong: contradictions of its header, and with the
        headers of the other files.
    """

    headers: dict[Path, Header]
    geometries: dict[Path, Geometry]
    notes: tuple[tuple[Path, str], ...]
    warnings: tuple[tuple[Path, str], ...]

    @property
    def unit(self) -> LengthUnit:
        """Unit of length of the first image."""
        return next(iter(self.headers.values())).unit

    @property
    def stored(self) -> Geometry:
        """Geometry of the first image as stored."""
        return next(iter(self.geometries.values()))

    @property
    def geometry(self) -> Geometry:
        """Canonical geometry of the first image."""
        return self.stored.canonical


def read_subject_headers(dataset: Dataset, subject: Subject, modalities: Sequence[str] = ()) -> SubjectHeaders:
    """Check, reading only headers, that a subject's files exist and agree in geometry.

    Parameters
    ----------
    dataset, subject : Dataset and Subject. The subject and its data set.
    modalities : sequence of str. Modalities to include, in order; empty for all.

    Raises
    ------
    DatasetError
        If a modality is missing, a file has another number of channels than the data set states, or geometries differ.
    VolumeError
        If a file is missing or its header is invalid.
    """
    modalities = tuple(modalities) or dataset.modalities
    unknown = [m for m in modalities if m not in dataset.modalities]
    if unknown:
        raise DatasetError(f"modalities: expected some of {', '.join(dataset.modalities)}; got {', '.join(unknown)}")
    absent = dataset.absent(subject, modalities)
    modalities = tuple(m for m in modalities if m not in absent)
    missing = [m for m in modalities if m not in subject.images]
    if missing:
        raise DatasetError(
            f"{dataset.path}: expected an image of {' and '.join(missing)} for {subject.id}, found none; "
            "add it, remove the subject, or choose what is done with such cases: --missing-modalities leave_out|zero"
        )
    images = dict.fromkeys(subject.images[m].path for m in modalities)
    headers: dict[Path, Header] = {}
    labels = tuple(subject.masks) or ((subject.label,) if subject.label else ())
    for path in (*images, *labels):
        headers[path] = read_file_header(dataset, subject.id, path)
        if path in images:
            refuse_segments(path, headers[path].segments)
        expected = 1 if path in labels else sum(ref.path == path for ref in subject.images.values())
        one_hot = path == subject.label and not subject.masks and headers[path].channels in one_hot_channels(dataset)
        if headers[path].channels != expected and not one_hot:
            names = f" ({', '.join(dataset.modalities)})" if expected > 1 else ""
            remedy = "correct the file or the list of modalities"
            if path in labels:
                remedy = "write one label per voxel; channels that hold 0 and 1 are read if there is one for each class"
            raise DatasetError(
                f"{path}: expected {format_count(expected, 'channel')}{names} as {dataset.name} states, got "
                f"{headers[path].channels}; {remedy}"
            )
    paths = list(headers)
    headers[paths[0]] = in_common_unit(headers[paths[0]], [headers[path] for path in paths[1:]])
    geometries: dict[Path, Geometry] = {}
    notes: list[tuple[Path, str]] = []
    warnings: list[tuple[Path, str]] = []
    for path in paths:
        follow = dataset.labels_follow_images or subject.id in dataset.recipe.follow_image
        aligned = align_to_first(headers[paths[0]], headers[path], follow)
        if aligned.problem:
            kind = "label" if path in labels else "image"
            raise DatasetError(f"{path}: the {kind} does not fit the first image of {subject.id}: {aligned.problem}")
        geometries[path] = aligned.header.geometry
        first = geometries.get(labels[0], aligned.header.geometry) if labels else aligned.header.geometry
        if path in subject.masks and not _same_grid(aligned.header.geometry, first):
            raise DatasetError(
                f"{path}: expected the voxel grid of the other masks of {subject.id}, such as {labels[0].name}, got "
                "another one; write all masks on the grid of the image"
            )
        notes += [(path, note) for note in aligned.header.notes]
        warnings += [(path, warning) for warning in aligned.header.warnings]
    return SubjectHeaders(headers, geometries, tuple(notes), tuple(warnings))


def load_subject(
    dataset: Dataset, subject_id: str, modalities: Sequence[str] = (), classes: Sequence[str] = ()
) -> LoadedSubject:
    """Read one subject.

    Parameters
    ----------
    dataset : Dataset. Data set.
    subject_id : str. Subject id.
    modalities : sequence of str. Channels of the image, in order; empty for all.
    classes : sequence of str. Foreground classes to keep, in the data set's order; others become background. Empty for
        all.

    Raises
    ------
    DatasetError
        If the subject, a modality or a class is unknown, an image is missing, geometries differ, or the label map holds
        a value that is not a class.
    VolumeError
        If a file cannot be read.
    """
    subject = dataset.subject(subject_id)
    kept = dataset.labels.subset(classes) if classes else dataset.labels
    modalities = tuple(modalities) or dataset.modalities
    files = read_subject_headers(dataset, subject, modalities)
    absent = dataset.absent(subject, modalities)
    refs = [subject.images[m] for m in modalities if m not in absent]
    image, nan_voxels = _read_channels(refs, files, dataset.nan_is_zero)
    if absent:
        present = image
        image = np.zeros((len(modalities), *present.shape[1:]), present.dtype)
        image[[m not in absent for m in modalities]] = present
    label = None
    remarks = [*files.warnings, *files.notes]
    if subject.label is not None:
        label, raw = read_label_index(dataset, subject, files.geometries[subject.label])
        nan_voxels += raw.nan_voxels
        remarks += [(subject.label, warning) for warning in raw.warnings]
        if classes:
            label = class_mapping(dataset.labels.names, kept.names)[label]
    first = refs[0].path
    return LoadedSubject(
        subject.id, image, label, files.geometry, files.stored, first, nan_voxels, tuple(remarks), absent
    )


def load_label(dataset: Dataset, subject_id: str, modalities: Sequence[str] = ()) -> tuple[np.ndarray | None, Geometry]:
    """The label map of a subject as :func:`load_subject` reads it, and its geometry; voxels of images are not read.

    Parameters
    ----------
    dataset, subject_id, modalities : as for :func:`load_subject`.

    Returns
    -------
    ndarray, uint8, shape (i, j, k), or None; and Geometry
        Class indices, ``None`` without a label map; the canonical geometry of the subject.

    Raises
    ------
    DatasetError, VolumeError
        As for :func:`load_subject`.
    """
    subject = dataset.subject(subject_id)
    files = read_subject_headers(dataset, subject, modalities)
    label = None if subject.label is None else read_label_index(dataset, subject, files.geometries[subject.label])[0]
    return label, files.geometry


def read_file_header(dataset: Dataset, subject_id: str, path: Path) -> Header:
    """Header of a file of a subject, with the place that the recipe of the data set chooses.

    Raises
    ------
    VolumeError
        If the file is missing or its header is invalid.
    """
    header = read_header(path)
    if header.qform is None or subject_id not in dataset.recipe.take_qform:
        return header
    return header.in_qform()


def _same_grid(a: Geometry, b: Geometry) -> bool:
    """Whether voxels of two files with the same index lie in the same place."""
    return a.axis_codes == b.axis_codes and geometry_difference(a.canonical, b.canonical) is None


def class_mapping(names: Sequence[str], kept: Sequence[str]) -> np.ndarray:
    """Lookup table from class index in ``names`` to class index in ``kept``, 0 where a class is not kept; uint8, with
    an entry for every value. Ignored voxels stay ignored."""
    table = np.zeros(IGNORE_INDEX + 1, np.uint8)
    table[: len(names)] = [kept.index(name) if name in kept else 0 for name in names]
    table[IGNORE_INDEX] = IGNORE_INDEX
    return table


def _read_channels(refs: Sequence[ImageRef], files: SubjectHeaders, nan_is_zero: bool) -> tuple[np.ndarray, int]:
    """Read images as one array, float32, shape (channel, i, j, k), and count NaN; each file is read once."""
    volumes: dict[Path, Volume] = {}
    for path in dict.fromkeys(ref.path for ref in refs):
        channels = {ref.channel for ref in refs if ref.path == path}
        channel = next(iter(channels)) if len(channels) == 1 else None
        volumes[path] = read_image(path, channel, geometry=files.geometries[path], nan_is_zero=nan_is_zero)
    nan_voxels = sum(volume.nan_voxels for volume in volumes.values())
    if len(refs) == 1:
        return volumes[refs[0].path].data, nan_voxels
    arrays = [volumes[ref.path].data for ref in refs]
    return np.stack(
        [data[ref.channel if len(data) > 1 else 0] for ref, data in zip(refs, arrays, strict=True)]
    ), nan_voxels


def align_label(dataset: Dataset, subject: Subject, file: Path) -> Header:
    """Header of a label map beside those of the data set, with the geometry to read it in: aligned with the first image
    of the subject like the label map that the data set has, with a warning where that assumes anything.

    Raises
    ------
    DatasetError
        If there is no image.
    VolumeError
        If a header is invalid, or the label map is not on the grid of the image.
    """
    first = read_first_header(dataset, subject)
    follow = dataset.labels_follow_images or subject.id in dataset.recipe.follow_image
    aligned = align_to_first(first, read_header(file), follow)
    if aligned.problem:
        raise VolumeError(
            f"{file}: expected a segmentation on the grid of the image of {subject.id}: {aligned.problem}"
        )
    return aligned.header


def read_first_geometry(dataset: Dataset, subject: Subject) -> Geometry:
    """Geometry of a subject's first image as stored; parameters and errors as for :func:`read_first_header`."""
    return read_first_header(dataset, subject).geometry


def read_first_header(dataset: Dataset, subject: Subject) -> Header:
    """Header of a subject's first image; other files are read only for a unit of length that it lacks, and none of them
    needs to be valid.

    Raises
    ------
    DatasetError
        If there is no image.
    VolumeError
        If its header is invalid.
    """
    first = next((subject.images[m].path for m in dataset.modalities if m in subject.images), None)
    if first is None:
        raise DatasetError(
            f"{dataset.path}: expected an image of {' or '.join(dataset.modalities)} for {subject.id}, found none"
        )
    header = read_file_header(dataset, subject.id, first)
    others = []
    if header.unit == "unknown":
        for path in subject.files:
            with contextlib.suppress(VolumeError):
                others.append(read_file_header(dataset, subject.id, path))
    return in_common_unit(header, others)
