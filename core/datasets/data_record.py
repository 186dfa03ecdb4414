"""Record of the data that a run was trained on: geometry and digest of each file, and what has changed since.

The record is a file of the run folder. Voxels are digested as training receives them: scaled, as class indices, in
canonical order. Files that are moved, renamed, compressed anew or stored in another order of axes are thus the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.checkpointing.metadata import DATA_RECORD
from core.datasets.layouts.base import Dataset
from core.datasets.layouts.recipe import Recipe
from core.datasets.loading import LoadedSubject, read_file_header
from core.errors import DatasetError, check_version
from core.files import atomic_write
from core.formatting import format_list, format_size
from core.imaging.geometry import Geometry, format_mm
from core.labels import IGNORE_INDEX, LabelSpace
from core.types import Size3

FORMAT_VERSION = 1
LABEL_MAP = "label map"
IGNORED = " (ignored)"
MAX_CHANGES = 6  # kinds of change that a message names
# Tolerances of the elements of an affine, stored as float32: relative, and as a share of the smallest voxel side.
RELATIVE_TOLERANCE, VOXEL_TOLERANCE = 1e-5, 1e-3


@dataclass(frozen=True)
class FileRecord:
    """One image, or the label map, of a subject.

    Attributes
    ----------
    file : str. Path, relative to the folder of the data set if it is inside.
    channel : int. Channel of the file, from 0.
    shape : tuple of int. Voxels along i, j, k in canonical order.
    affine : tuple of tuple of float. Canonical voxel index to RAS mm, shape (4, 4).
    orientation : str. Orientation of the stored axes, such as "LAS"; "???" if unknown.
    digest : str. SHA-256 of the voxels; empty before they are read.
    label_voxels : dict. Number of voxels by label value, of a label map; empty for an image.
    """

    file: str
    channel: int
    shape: Size3
    affine: tuple[tuple[float, ...], ...]
    orientation: str
    digest: str = ""
    label_voxels: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, dataset: Dataset, id: str, path: Path, channel: int = 0) -> FileRecord | None:
        """The record of a file of a subject from its header; ``None`` if there is no such file.

        Raises
        ------
        VolumeError
            If the header is invalid.
        """
        if not path.exists():
            return None
        stored = read_file_header(dataset, id, path).geometry
        geometry = stored.canonical
        affine = tuple(tuple(float(v) for v in row) for row in geometry.affine)
        name = path.relative_to(dataset.path) if path.is_relative_to(dataset.path) else path
        return cls(name.as_posix(), channel, geometry.shape, affine, "".join(stored.axis_codes))

    @property
    def geometry(self) -> Geometry:
        """Canonical geometry."""
        return Geometry(self.shape, np.array(self.affine), oriented="?" not in self.orientation)

    def changes(self, now: FileRecord) -> Iterator[str]:
        """What differs in another record of the same image; voxels are compared where both records have them."""
        if now.shape != self.shape:
            yield f"shape {format_size(self.shape)} to {format_size(now.shape)}"
        before_mm, now_mm = self.geometry.spacing_mm, now.geometry.spacing_mm
        tolerance_mm = VOXEL_TOLERANCE * min(before_mm)
        if not np.allclose(before_mm, now_mm, rtol=RELATIVE_TOLERANCE, atol=tolerance_mm):
            yield f"voxel size {format_mm(before_mm)} mm to {format_mm(now_mm)} mm"
        elif not np.allclose(self.affine, now.affine, rtol=RELATIVE_TOLERANCE, atol=tolerance_mm):
            if now.orientation != self.orientation:
                yield f"orientation {self.orientation} to {now.orientation}"
            else:
                yield f"affine {_matrix(self.affine)} to {_matrix(now.affine)}"
        elif now.orientation != self.orientation and self._has_other_voxels(now):
            # An edited header moves the voxels; a file whose voxels were reordered with its header is the same data.
            yield f"orientation {self.orientation} to {now.orientation}"
        if self._has_other_voxels(now):
            yield self._content_change(now)

    def _has_other_voxels(self, now: FileRecord) -> bool:
        return bool(now.shape == self.shape and self.digest and now.digest and now.digest != self.digest)

    def _content_change(self, now: FileRecord) -> str:
        if self.label_voxels.keys() != now.label_voxels.keys():
            return f"label values {', '.join(self.label_voxels)} to {', '.join(now.label_voxels)}"
        if now.file != self.file:
            return f"other voxels, from {now.file}"
        if now.channel != self.channel:
            return f"channel {self.channel + 1} to {now.channel + 1}"
        counts = [
            f"label {value} in {self.label_voxels[value]:,} to {voxels:,} voxels"
            for value, voxels in reversed(now.label_voxels.items())  # the background last
            if voxels != self.label_voxels[value]
        ]
        return f"content ({format_list(counts, 2)})" if counts else "content (other voxel values)"


@dataclass(frozen=True)
class VoxelDigests:
    """What a record keeps of the voxels of a subject.

    Attributes
    ----------
    images : dict. SHA-256 of the voxels by modality; absent modalities are left out.
    label : str. SHA-256 of the label map; empty without one.
    label_voxels : dict. Number of voxels by label value.
    """

    images: dict[str, str]
    label: str = ""
    label_voxels: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, loaded: LoadedSubject, modalities: Sequence[str], labels: LabelSpace) -> VoxelDigests:
        """Digests of a subject, read with these modalities and classes."""
        channels = zip(modalities, loaded.image, strict=True)
        images = {modality: _digest(data) for modality, data in channels if modality not in loaded.absent}
        if loaded.label is None:
            return cls(images)
        counts = np.bincount(loaded.label.reshape(-1), minlength=256)
        values = dict(enumerate(labels.raw_values))
        if labels.ignore is not None:
            values[IGNORE_INDEX] = labels.ignore.raw
        voxels = {str(values.get(index, "ignored")): int(n) for index, n in enumerate(counts) if n}
        return cls(images, _digest(loaded.label), voxels)


@dataclass(frozen=True)
class SubjectRecord:
    """The files of a subject: images by modality, and the label map under ``LABEL_MAP``; missing files are left out."""

    files: dict[str, FileRecord]

    @classmethod
    def read(cls, dataset: Dataset, id: str, modalities: Sequence[str]) -> SubjectRecord:
        """The record of a subject from the headers of its files.

        Raises
        ------
        VolumeError
            If a header is invalid.
        """
        subject = dataset.subject(id)
        refs = {m: (subject.images[m].path, subject.images[m].channel) for m in modalities if m in subject.images}
        if subject.label is not None:
            refs[LABEL_MAP] = (subject.label, 0)
        found = {role: FileRecord.read(dataset, id, *ref) for role, ref in refs.items()}
        return cls({role: record for role, record in found.items() if record is not None})

    def with_voxels(self, loaded: LoadedSubject, modalities: Sequence[str], labels: LabelSpace) -> SubjectRecord:
        """The record with the digests of the voxels of the subject, read with these modalities and classes."""
        return self.with_digests(VoxelDigests.of(loaded, modalities, labels))

    def with_digests(self, digests: VoxelDigests) -> SubjectRecord:
        """The record with digests of the voxels."""
        files = dict(self.files)
        for modality, digest in digests.images.items():
            files[modality] = replace(files[modality], digest=digest)
        if digests.label:
            files[LABEL_MAP] = replace(files[LABEL_MAP], digest=digests.label, label_voxels=digests.label_voxels)
        return SubjectRecord(files)

    def changes(self, now: SubjectRecord) -> Iterator[tuple[str, str]]:
        """What differs in another record of the subject, as pairs of change and file."""
        for role, before in self.files.items():
            found = now.files.get(role)
            if found is None:
                yield f"{role} missing", before.file
            else:
                yield from ((change, found.file) for change in before.changes(found))
        yield from ((f"{role} added", found.file) for role, found in now.files.items() if role not in self.files)


@dataclass(frozen=True)
class DataRecord:
    """The data of a run.

    Attributes
    ----------
    modalities : tuple of str. Input channels of the network, in order.
    labels : tuple of str. Label value and name of each class, background first, and of the ignore label.
    subjects : dict. Record by id of the training and validation subjects.
    accepted : tuple of str. Changes of the data with which the run was continued on request.
    recipe : Recipe. Repairs that are applied when the data is read; empty for runs of earlier versions.
    """

    modalities: tuple[str, ...]
    labels: tuple[str, ...]
    subjects: dict[str, SubjectRecord]
    accepted: tuple[str, ...] = ()
    recipe: Recipe = field(default_factory=Recipe)

    @classmethod
    def read_headers(
        cls, dataset: Dataset, ids: Iterable[str], modalities: Sequence[str], labels: LabelSpace
    ) -> DataRecord:
        """The record without voxels, from headers; ``labels`` are the classes of the network.

        Raises
        ------
        DatasetError
            If a subject is unknown.
        VolumeError
            If a header is invalid.
        """
        subjects = {id: SubjectRecord.read(dataset, id, modalities) for id in ids}
        return cls(tuple(modalities), label_texts(labels), subjects, recipe=dataset.recipe)

    @classmethod
    def load(cls, folder: Path) -> DataRecord | None:
        """The record of a run folder; ``None`` where there is none (runs of earlier versions).

        Raises
        ------
        DatasetError
            If it is damaged or of a newer version.
        """
        path = folder / DATA_RECORD
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            check_version(int(content["version"]), FORMAT_VERSION, DatasetError, f"{path}:")
            subjects = {id: _subject_from_json(files) for id, files in content["subjects"].items()}
            texts = (tuple(map(str, content[name])) for name in ("modalities", "labels", "accepted"))
            modalities, labels, accepted = texts
            recipe = Recipe.from_json(str(path), content.get("recipe", {}))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(
                f"{path}: expected the record of the run's data, got a damaged one ({error}); go on without it: "
                "runs resume RUN --force"
            ) from None
        return cls(modalities, labels, subjects, accepted, recipe)

    @classmethod
    def load_or_none(cls, folder: Path) -> DataRecord | None:
        """The record of a run folder; ``None`` where there is none that can be read."""
        try:
            return cls.load(folder)
        except DatasetError:
            return None

    def with_accepted(self, changes: Sequence[str]) -> DataRecord:
        """The record with these accepted changes."""
        return replace(self, accepted=tuple(changes))

    def save(self, folder: Path) -> None:
        """Write the record into a run folder, atomically and durably.

        Raises
        ------
        DatasetError
            If it cannot be written.
        """
        content = {
            "version": FORMAT_VERSION,
            "modalities": self.modalities,
            "labels": self.labels,
            "subjects": {id: {role: asdict(f) for role, f in s.files.items()} for id, s in self.subjects.items()},
            "accepted": self.accepted,
            "recipe": self.recipe.to_json(),
        }
        try:
            atomic_write(folder / DATA_RECORD, json.dumps(content), durable=True)
        except OSError as error:
            raise DatasetError(f"{folder / DATA_RECORD}: cannot be written: {error.strerror or error}") from error

    def subject_warnings(self, dataset: Dataset, loaded: LoadedSubject, labels: LabelSpace) -> tuple[str, ...]:
        """How a subject, read with the modalities and in the classes of the network, differs from what was recorded.

        Empty for a subject that is not in the record.
        """
        before = self.subjects.get(loaded.id)
        if before is None:
            return ()
        headers = SubjectRecord.read(dataset, loaded.id, self.modalities)
        now = headers.with_voxels(loaded, self.modalities, labels)
        return tuple(f"changed since training: {file}: {change}" for change, file in before.changes(now))

    def has_channels_of(self, other: DataRecord) -> bool:
        """Whether modalities and names of the classes are the same."""
        own, others = ([t.partition(" ")[2] for t in r.labels if not t.endswith(IGNORED)] for r in (self, other))
        return self.modalities == other.modalities and own == others

    def changes(self, now: DataRecord) -> list[str]:
        """What differs in another record, each kind of change once with its files; empty if the data is the same.

        Subjects that only the other record has are ignored.
        """
        found: dict[str, list[str]] = {}
        for name, before, after in (
            ("modalities", self.modalities, now.modalities),
            ("classes", self.labels, now.labels),
        ):
            if before != after:
                found[f"{name} {', '.join(before)} to {', '.join(after)}"] = []
        if self.recipe.digest != now.recipe.digest:
            earlier, later = (" and ".join(recipe.lines()) or "nothing" for recipe in (self.recipe, now.recipe))
            found[f"what is mended on reading: {earlier}, to {later}"] = []
        for id, record in self.subjects.items():
            if id not in now.subjects:
                found.setdefault("subject missing", []).append(id)
                continue
            for change, file in record.changes(now.subjects[id]):
                files = found.setdefault(change, [])
                if file not in files:
                    files.append(file)
        return [f"{format_list(files)}: {change}" if files else change for change, files in found.items()]


class ChangedDataError(DatasetError):
    """The data of a run is not what the run began with.

    Attributes
    ----------
    changes : tuple of str. What differs, as :meth:`DataRecord.changes` names it.
    """

    what, begins = "data", "expected the data that the run began with, found changes"

    def __init__(self, changes: Sequence[str]) -> None:
        self.changes = tuple(changes)
        more = f"; and {len(changes) - MAX_CHANGES} more" if len(changes) > MAX_CHANGES else ""
        super().__init__(
            f"{self.begins}: {'; '.join(changes[:MAX_CHANGES])}{more}; restore the earlier files, start a new run, or "
            f"go on knowingly with the {self.what} as it is now: runs resume RUN --force"
        )


class ChangedCodeError(ChangedDataError):
    """The code of a run's network, the user's own, is not what the run began with."""

    what, begins = "code", "expected the code of the network that the run began with, found changes"


CHANGED = (ChangedDataError.begins, ChangedCodeError.begins)  # begin the messages of a run that may go on all the same


def label_texts(labels: LabelSpace) -> tuple[str, ...]:
    """Value and name of each class, and of the ignore label, as texts that do not change with colours."""
    ignored = [f"{labels.ignore.raw} {labels.ignore.name}{IGNORED}"] if labels.ignore is not None else []
    return (*(f"{c.raw} {c.name}" for c in labels.classes), *ignored)


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _subject_from_json(files: Mapping[str, Any]) -> SubjectRecord:
    return SubjectRecord({role: _file_from_json(content) for role, content in files.items()})


def _file_from_json(content: Mapping[str, Any]) -> FileRecord:
    i, j, k = (int(n) for n in content["shape"])
    affine = np.array(content["affine"], np.float64)
    if affine.shape != (4, 4):
        raise ValueError(f"an affine of shape {affine.shape}")
    return FileRecord(
        file=str(content["file"]),
        channel=int(content["channel"]),
        shape=(i, j, k),
        affine=tuple(tuple(row) for row in affine.tolist()),
        orientation=str(content["orientation"]),
        digest=str(content["digest"]),
        label_voxels={str(value): int(n) for value, n in content["label_voxels"].items()},
    )


def _matrix(affine: Sequence[Sequence[float]]) -> str:
    return "[" + "; ".join(" ".join(f"{v:.5g}" for v in row) for row in affine[:3]) + "]"
