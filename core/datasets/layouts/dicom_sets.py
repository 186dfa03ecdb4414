"""Subjects of a folder of DICOM files: series of images, with the segmentations and contours that refer to them.

Files are matched by the UIDs in their headers, not by names; subjects are named by their folders.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from core.datasets.layouts.assignment import IMAGE, Assignment, Case
from core.datasets.layouts.base import natural_key
from core.datasets.layouts.listing import Listing
from core.datasets.layouts.set_description import SetDescription
from core.errors import DatasetError, VolumeError
from core.formatting import format_count, format_list
from core.imaging.dicom_folders import index_folder
from core.imaging.dicom_index import DicomSeries, FolderIndex, LabelObject
from core.imaging.segments import segment_key


@dataclass
class _Series:
    """A series with its place.

    Attributes
    ----------
    path : str. Its folder; one of its files, where several series share a folder.
    series : DicomSeries. The series.
    parts : tuple of str. Names that tell it apart: of its folders, and its own where it shares one.
    labels : list of (str, LabelObject). Files of segmentations and contours that refer to it.
    """

    path: str
    series: DicomSeries
    parts: tuple[str, ...]
    labels: list[tuple[str, LabelObject]] = field(default_factory=list)


def assign_dicom(description: SetDescription, listing: Listing) -> Assignment:
    """Match the DICOM files of a folder.

    A subject is a series to which a segmentation or contours refer; series of the same kind in studies without any are
    subjects for prediction, other series are not read.

    Raises
    ------
    DatasetError
        If a folder of DICOM files cannot be read.
    """
    found = _Found(listing)
    chosen = found.chosen()
    modalities = {s.series.modality for s in chosen}
    texts = {m: description.modalities.get(m.casefold(), m) for m in sorted(modalities)}
    if len(set(texts.values())) > 1:
        found.notes.append(f"series of {' and '.join(sorted(modalities))} are one modality, {IMAGE}")
        texts = dict.fromkeys(texts, IMAGE)
    ids = _ids([s.parts for s in chosen], listing.folder.absolute().name)
    patients = _patients([s.series.patient for s in chosen])
    cases = [
        Case(id, {"case": id, **patient}, {texts[s.series.modality]: s.path}, _named_labels(s.labels))
        for s, id, patient in zip(chosen, ids, patients, strict=True)
    ]
    cases.sort(key=lambda case: natural_key(case.id))
    return Assignment(
        description,
        tuple(cases),
        tuple(dict.fromkeys(texts.values())),
        (),
        listing.images,
        sum(len(c.files) for c in cases),
        modality_texts=texts,
        segments=_segments(found.labels),
        notes=tuple(found.notes),
        warnings=tuple(found.warnings),
    )


class _Found:
    """Series and label maps of a folder."""

    def __init__(self, listing: Listing) -> None:
        self.series: dict[str, _Series] = {}
        self.labels: list[LabelObject] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        waiting: list[tuple[str, LabelObject]] = []
        copies = 0
        split: list[str] = []
        problems: list[str] = []
        damaged: list[str] = []
        for folder in listing.dicom_folders:
            try:
                index = index_folder(listing.folder / folder)
            except VolumeError as error:
                raise DatasetError(str(error)) from None
            for series in _series_of(folder, index):
                known = self.series.setdefault(series.series.uid, series)
                if known is not series and known.series.instances == series.series.instances:
                    copies += 1
                elif known is not series:
                    split.append(f"{series.path} ({known.path} is read)")
            waiting += [(_join(folder, label.file), label) for label in index.labels]
            problems += index.problems
            damaged += (_join(folder, file) for file in index.damaged)
        lost: list[str] = []
        for file, label in self._without_copies(waiting):
            owner = self._owner(label)
            if owner is None:
                lost.append(file)
                continue
            owner.labels.append((file, label))
            self.labels.append(label)
        self._warn_of_versions()
        if copies:
            self.notes.append(f"{copies} series lie in several folders: the first of each is read")
        if split:
            self.warnings.append(
                f"{format_count(len(split), 'folder')} with further slices of a series in another one, which are not "
                f"read: {format_list(split, 3)}; put all slices of a series into one folder"
            )
        if lost:
            self.notes.append(
                f"{len(lost)} segmentations or contours refer to series that are not here, and are not read: "
                f"{format_list(lost, 3)}"
            )
        if problems:
            self.warnings.append(
                f"{len(problems)} segmentations or contours cannot be read: {format_list(problems, 2)}"
            )
        if damaged:
            self.warnings.append(
                f"{format_count(len(damaged), 'DICOM file')} with a damaged header, left out as slice or segmentation: "
                f"{format_list(damaged, 4)}; copy them again"
            )

    def chosen(self) -> list[_Series]:
        """The series that are subjects."""
        labelled = [s for s in self.series.values() if s.labels]
        kinds = {s.series.modality for s in labelled}
        studies = {s.series.study for s in labelled}
        others = [
            s
            for s in self.series.values()
            if not s.labels and s.series.study not in studies and (not kinds or s.series.modality in kinds)
        ]
        unread = [s.path for s in self.series.values() if not s.labels and s not in others]
        if unread:
            self.notes.append(
                f"{len(unread)} further series have no segmentation or contours and are not read: "
                f"{format_list(unread, 3)}"
            )
        return labelled + others

    def _without_copies(self, labels: Sequence[tuple[str, LabelObject]]) -> Iterator[tuple[str, LabelObject]]:
        """Label maps, of identical files the one nearest to its series."""
        alike: dict[str, list[tuple[str, LabelObject]]] = {}
        for file, label in labels:
            alike.setdefault(label.content, []).append((file, label))
        copies = len(labels) - len(alike)
        if copies:
            self.notes.append(f"{copies} segmentations or contours are copies of others and are not read again")
        for files in alike.values():
            owner = self._owner(files[0][1]) if len(files) > 1 else None
            yield files[0] if owner is None else min(files, key=partial(_distance, owner.path))

    def _warn_of_versions(self) -> None:
        """Warn of label maps of one series that have the same UID, but not the same content."""
        found: list[str] = []
        for series in self.series.values():
            counts = Counter(label.instance for _, label in series.labels if label.instance)
            found += [file for file, label in series.labels if counts[label.instance] > 1]
        if found:
            self.warnings.append(
                f"{len(found)} segmentations or contours of a series have the UID of another one, but not its content: "
                f"{format_list(found, 4)}; each is read as one of its own: remove those that are outdated"
            )

    def _owner(self, label: LabelObject) -> _Series | None:
        """The series to which a label map refers.

        Of several the one that has most of the images that it refers to, then one with its frame of reference, then the
        first that it names. Of a file that names no series and no images, the only series of its study.
        """
        named = [self.series[uid] for uid in label.series if uid in self.series]
        if not label.series and not label.images:
            of_study = [s for s in self.series.values() if s.series.study == label.study]
            return of_study[0] if len(of_study) == 1 else None
        images = set(label.images)
        candidates = named if label.series else [s for s in self.series.values() if images & set(s.series.instances)]

        def rank(series: _Series) -> tuple[int, bool]:
            frames = label.frames_of_reference
            return len(images.intersection(series.series.instances)), series.series.frame_of_reference in frames

        return max(candidates, key=rank, default=None)


def _series_of(folder: str, index: FolderIndex) -> Iterator[_Series]:
    parts = tuple(p for p in folder.split("/") if p)
    for series in index.series:
        if len(index.series) == 1:
            yield _Series(folder or ".", series, parts)
            continue
        name = re.sub(r"[^\w.-]+", "_", series.description).strip("_") or series.modality
        yield _Series(_join(folder, series.file), series, (*parts, f"{series.number}_{name}"))


def _distance(folder: str, label: tuple[str, LabelObject]) -> tuple[int, str]:
    """Number of folders between a folder and a label map, then its file."""
    file, _ = label
    one, other = file.split("/")[:-1], folder.split("/")
    common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return len(one) + len(other) - 2 * common, file


def _ids(places: Sequence[tuple[str, ...]], folder: str) -> list[str]:
    """Ids of subjects: the first of their folders that tell them apart, without those that all share."""
    shared = 0
    if len(places) > 1:
        while len({p[: shared + 1] for p in places}) == 1 and all(len(p) > shared + 1 for p in places):
            shared += 1
    rest = [p[shared:] or (folder,) for p in places]
    for length in range(1, max(map(len, rest), default=0) + 1):
        ids = ["_".join(p[:length]) for p in rest]
        if len({id.casefold() for id in ids}) == len(ids):
            return ids
    counts: Counter[str] = Counter()
    ids = []
    for place in rest:
        id = "_".join(place)
        counts[id.casefold()] += 1
        ids.append(f"{id}_{counts[id.casefold()]}")
    return ids


def _patients(ids: Sequence[str]) -> list[dict[str, str]]:
    """The patient of each subject as an entity, without their id itself; nothing where all have the same, or none."""
    if not all(ids) or len(set(ids)) < min(2, len(ids)):
        return [{} for _ in ids]
    return [{"patient": hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()[:8]} for id in ids]


def _named_labels(labels: Sequence[tuple[str, LabelObject]]) -> dict[str, str]:
    """Label maps of a series by rater: "" for a single one, else kind, and description or file."""
    if len(labels) < 2:
        return dict.fromkeys([""], labels[0][0]) if labels else {}
    kinds = Counter(label.kind for _, label in labels)
    named: dict[str, str] = {}
    for file, label in sorted(labels):
        name = label.kind if kinds[label.kind] == 1 else f"{label.kind} {label.description or file.rpartition('/')[2]}"
        named[name if name not in named else f"{name} {file}"] = file
    return named


def _segments(labels: Sequence[LabelObject]) -> dict[str, str]:
    """Colour by name of all segments, in natural order; the first spelling and colour count."""
    found: dict[str, tuple[str, str]] = {}
    for segment in (s for label in labels for s in label.segments):
        name, colour = found.get(segment_key(segment.name), (segment.name, ""))
        found[segment_key(segment.name)] = (name, colour or segment.colour)
    return dict(sorted(found.values(), key=lambda pair: natural_key(pair[0].casefold())))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
