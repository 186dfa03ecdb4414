"""Reads one subject: images and label map, aligned in canonical orientation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.datasets.layouts.base import Dataset, ImageRef, Subject
from core.errors import DatasetError
from core.imaging.geometry import Geometry, geometry_difference
from core.imaging.headers import Header, read_header
from core.imaging.volume import read_image, read_label


@dataclass(frozen=True)
class LoadedSubject:
    """One subject in memory.

    Attributes
    ----------
    id : str. Subject id.
    image : ndarray, float32, shape (channel, i, j, k). Intensities as in the files, canonical RAS.
    label : ndarray, uint8, shape (i, j, k), or None. Class indices.
    geometry : Geometry. Canonical geometry of the arrays.
    stored : Geometry. Geometry of the first image's file.
    first_image : Path. File of the first image.
    """

    id: str
    image: np.ndarray
    label: np.ndarray | None
    geometry: Geometry
    stored: Geometry
    first_image: Path


@dataclass(frozen=True)
class SubjectHeaders:
    """Headers of one subject's files; the first file is the first image.

    Attributes
    ----------
    headers : dict. Header by file.
    geometries : dict. Geometry by file, after alignment with the first image.
    notes : tuple of (Path, str). Unusual orientations by file.
    """

    headers: dict[Path, Header]
    geometries: dict[Path, Geometry]
    notes: tuple[tuple[Path, str], ...]

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
    missing = [m for m in modalities if m not in subject.images]
    if missing:
        raise DatasetError(
            f"{dataset.path}: expected an image of {' and '.join(missing)} for {subject.id}, found none; "
            "add it, or remove the subject"
        )
    images = dict.fromkeys(subject.images[m].path for m in modalities)
    headers: dict[Path, Header] = {}
    for path in (*images, *([subject.label] if subject.label else [])):
        headers[path] = read_header(path)
        expected = 1 if path == subject.label else sum(ref.path == path for ref in subject.images.values())
        if headers[path].channels != expected:
            names = f" ({', '.join(dataset.modalities)})" if expected > 1 else ""
            raise DatasetError(
                f"{path}: expected {expected} channel{'s' * (expected > 1)}{names} as {dataset.name} states, got "
                f"{headers[path].channels}; correct the file or the list of modalities"
            )
    first = next(iter(headers.values())).geometry
    geometries: dict[Path, Geometry] = {}
    notes: list[tuple[Path, str]] = []
    for path, header in headers.items():
        geometries[path], note = _align_to_first_image(dataset, subject, first, header)
        if note:
            notes.append((path, note))
    return SubjectHeaders(headers, geometries, tuple(notes))


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
    refs = [subject.images[m] for m in modalities]
    image = _read_channels(refs, files)
    label = None
    if subject.label is not None:
        raw = read_label(subject.label, geometry=files.geometries[subject.label]).data[0]
        try:
            label = dataset.labels.to_index(raw)
        except DatasetError as error:
            raise DatasetError(f"{subject.label}: {error}; correct the file or the list of labels") from None
        if classes:
            label = class_mapping(dataset.labels.names, kept.names)[label]
    return LoadedSubject(subject.id, image, label, files.geometry, files.stored, refs[0].path)


def class_mapping(names: Sequence[str], kept: Sequence[str]) -> np.ndarray:
    """Lookup table from class index in ``names`` to class index in ``kept``, 0 where a class is not kept; uint8."""
    return np.array([kept.index(name) if name in kept else 0 for name in names], np.uint8)


def _read_channels(refs: Sequence[ImageRef], files: SubjectHeaders) -> np.ndarray:
    """Read images as one array, float32, shape (channel, i, j, k); each file is read once."""
    volumes: dict[Path, np.ndarray] = {}
    for path in dict.fromkeys(ref.path for ref in refs):
        channels = {ref.channel for ref in refs if ref.path == path}
        channel = next(iter(channels)) if len(channels) == 1 else None
        volumes[path] = read_image(path, channel, geometry=files.geometries[path]).data
    if len(refs) == 1:
        return volumes[refs[0].path]
    return np.stack([volumes[ref.path][ref.channel if len(volumes[ref.path]) > 1 else 0] for ref in refs])


def _align_to_first_image(
    dataset: Dataset, subject: Subject, first: Geometry, header: Header
) -> tuple[Geometry, str | None]:
    """Geometry of a file, checked against the subject's first image; and a note on an unusual orientation.

    Files may store the same grid in any axis order. A file without orientation, or one after a first image without
    orientation, is aligned as stored.
    """
    own = header.geometry
    if first.oriented and own.oriented:
        problem = geometry_difference(first.canonical, own.canonical)
        if problem is None:
            return own, None
        if dataset.labels_follow_images and first.axis_codes != own.axis_codes:
            first_as_stored, own_as_stored = (Geometry(g.shape, g.affine, oriented=False) for g in (first, own))
            if geometry_difference(first_as_stored, own_as_stored) is None:
                return first, (
                    f"its header states orientation {''.join(own.axis_codes)}, that of the first image "
                    f"{''.join(first.axis_codes)}; its voxels are aligned with the image's as stored"
                )
        if first.axis_codes != own.axis_codes:
            problem += f" (stored as {''.join(own.axis_codes)}, the image as {''.join(first.axis_codes)})"
    else:
        problem = geometry_difference(first, own)
        if problem is None:
            if first.oriented == own.oriented:
                return first, None
            unoriented = "the first image" if own.oriented else "it"
            return first, f"{unoriented} states no orientation; its voxels are aligned with the image's as stored"
    kind = "label" if header.path == subject.label else "image"
    raise DatasetError(
        f"{header.path}: the {kind} does not fit the first image of {subject.id}: {problem}; "
        "resample one onto the other or correct its header"
    )
