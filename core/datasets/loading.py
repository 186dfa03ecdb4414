"""Reading one subject: its images and label brought together in canonical orientation, or one clear error why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.datasets.layouts.base import Dataset, Subject
from core.errors import DatasetError
from core.imaging.geometry import Geometry, geometry_difference
from core.imaging.headers import Header, read_header
from core.imaging.volume import read_image, read_label


@dataclass(frozen=True)
class LoadedSubject:
    """One subject in memory.

    Attributes
    ----------
    id : the subject's id.
    image : float32, shape (channels, i, j, k), canonical RAS, intensities as in the files.
    label : uint8 class indices, shape (i, j, k), or ``None``.
    geometry : of the arrays; canonical.
    stored : of the first image's file.
    first_image : that file.
    """

    id: str
    image: np.ndarray
    label: np.ndarray | None
    geometry: Geometry
    stored: Geometry
    first_image: Path


@dataclass(frozen=True)
class Examined:
    """One subject's files by their headers alone.

    Attributes
    ----------
    headers : by file; the first is that of the first image.
    geometries : by file, how its voxels are taken to lie.
    stored, geometry : of the first image, as stored and canonical.
    notes : (file, what is unusual about its orientation).
    """

    headers: dict[Path, Header]
    geometries: dict[Path, Geometry]
    notes: tuple[tuple[Path, str], ...]

    @property
    def stored(self) -> Geometry:
        return next(iter(self.geometries.values()))

    @property
    def geometry(self) -> Geometry:
        return self.stored.canonical


def examine(dataset: Dataset, subject: Subject, modalities: Sequence[str] = ()) -> Examined:
    """Check by headers alone that a subject's files exist and fit together.

    Raises
    ------
    DatasetError
        If a modality is missing, a file has another number of channels than the data set says, or image and label do
        not lie in the same place.
    VolumeError
        If a file is missing or its header is wrong.
    """
    wanted = tuple(modalities) or dataset.modalities
    unknown = [m for m in wanted if m not in dataset.modalities]
    if unknown:
        raise DatasetError(f"modalities: expected some of {', '.join(dataset.modalities)}; got {', '.join(unknown)}")
    missing = [m for m in wanted if m not in subject.images]
    if missing:
        raise DatasetError(
            f"{dataset.path}: expected an image of {' and '.join(missing)} for {subject.id}, found none; "
            "add it, or remove the subject"
        )
    files = dict.fromkeys(subject.images[m].path for m in wanted)
    headers: dict[Path, Header] = {}
    for path in (*files, *([subject.label] if subject.label else [])):
        headers[path] = read_header(path)
        expected = 1 if path == subject.label else sum(ref.path == path for ref in subject.images.values())
        if headers[path].channels != expected:
            names = f" ({', '.join(dataset.modalities)})" if expected > 1 else ""
            raise DatasetError(
                f"{path}: expected {expected} channel{'s' * (expected > 1)}{names} as {dataset.name} says, got "
                f"{headers[path].channels}; correct the file or the list of modalities"
            )
    first = next(iter(headers.values())).geometry
    geometries: dict[Path, Geometry] = {}
    notes: list[tuple[Path, str]] = []
    for path, header in headers.items():
        geometries[path], note = _aligned(dataset, subject, first, header)
        if note:
            notes.append((path, note))
    return Examined(headers, geometries, tuple(notes))


def load_subject(
    dataset: Dataset, subject_id: str, modalities: Sequence[str] = (), classes: Sequence[str] = ()
) -> LoadedSubject:
    """Read one subject.

    Parameters
    ----------
    modalities : the channels of the image, in order; empty: all of the data set.
    classes : the foreground classes to keep, in the data set's order; the others become background. Empty: all.

    Raises
    ------
    DatasetError
        If the subject, a modality or a class is unknown, an image is missing, files do not fit together, or the
        label map holds a value that is no class.
    VolumeError
        If a file cannot be read.
    """
    subject = dataset.subject(subject_id)
    keep = dataset.labels.subset(classes) if classes else dataset.labels
    wanted = tuple(modalities) or dataset.modalities
    examined = examine(dataset, subject, wanted)
    refs = [subject.images[m] for m in wanted]
    opened: dict[Path, np.ndarray] = {}
    for path in dict.fromkeys(ref.path for ref in refs):
        used = {ref.channel for ref in refs if ref.path == path}
        several = examined.headers[path].channels > 1 and len(used) > 1
        data = read_image(path, None if several else next(iter(used)), geometry=examined.geometries[path]).data
        opened[path] = data
    channels = [opened[ref.path][ref.channel if opened[ref.path].shape[0] > 1 else 0] for ref in refs]
    image = opened[refs[0].path] if len(opened) == 1 and len(refs) == 1 else np.stack(channels)
    label = None
    if subject.label is not None:
        raw = read_label(subject.label, geometry=examined.geometries[subject.label]).data[0]
        try:
            label = dataset.labels.to_index(raw)
        except DatasetError as error:
            raise DatasetError(f"{subject.label}: {error}; correct the file or the list of labels") from None
        if classes:
            label = class_mapping(dataset.labels.names, keep.names)[label]
    return LoadedSubject(subject.id, image, label, examined.geometry, examined.stored, refs[0].path)


def class_mapping(names: Sequence[str], kept: Sequence[str]) -> np.ndarray:
    """A table from class index among ``names`` to class index among ``kept``, 0 for the others; uint8."""
    return np.array([kept.index(name) if name in kept else 0 for name in names], np.uint8)


def _aligned(dataset: Dataset, subject: Subject, first: Geometry, header: Header) -> tuple[Geometry, str | None]:
    """How a file's voxels lie, given the subject's first image; and what is unusual about it.

    Files that lie in the same place may store it in any order. A file that states no orientation, or follows one that
    states none, is taken as stored.
    """
    own = header.geometry
    if first.oriented and own.oriented:
        problem = geometry_difference(first.canonical, own.canonical)
        if problem is None:
            return own, None
        if dataset.labels_follow_images and first.axis_codes != own.axis_codes:
            sizes = geometry_difference(
                Geometry(first.shape, first.affine, False), Geometry(own.shape, own.affine, False)
            )
            if sizes is None:
                return first, (
                    f"its header says orientation {''.join(own.axis_codes)}, that of the first image "
                    f"{''.join(first.axis_codes)}; its voxels are taken to line up with the image's as stored"
                )
        if first.axis_codes != own.axis_codes:
            problem += f" (stored as {''.join(own.axis_codes)}, the image as {''.join(first.axis_codes)})"
    else:
        problem = geometry_difference(first, own)
        if problem is None:
            if first.oriented == own.oriented:
                return first, None
            silent = "the first image" if own.oriented else "it"
            return first, f"{silent} states no orientation; its voxels are taken to line up with the image's as stored"
    what = "label" if header.path == subject.label else "image"
    raise DatasetError(
        f"{header.path}: the {what} does not fit the first image of {subject.id}: {problem}; "
        "resample one onto the other or correct its header"
    )
