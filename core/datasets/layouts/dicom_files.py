"""Series of a folder of DICOM files, and the segmentations and contours that refer to them, by the UIDs in headers."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.datasets.layouts.listing import Listing
from core.errors import DatasetError, VolumeError
from core.formatting import format_count, format_list
from core.imaging.dicom_folders import index_folder
from core.imaging.dicom_index import DicomSeries, FolderIndex, LabelObject
from core.imaging.headers import read_header


@dataclass
class FoundSeries:
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


class FoundFiles:
    """Series and label maps of a folder.

    Attributes
    ----------
    series : dict. Series by UID.
    labels : list of LabelObject. Segmentations and contours that refer to one of them.
    notes, warnings : list of str. What a person should know.

    Raises
    ------
    DatasetError
        If a folder of DICOM files cannot be read.
    """

    def __init__(self, listing: Listing) -> None:
        self.series: dict[str, FoundSeries] = {}
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
            owner = self._owner(label, listing.folder / file)
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
            yield files[0] if owner is None else _nearest(files, owner.path)

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

    def _owner(self, label: LabelObject, file: Path | None = None) -> FoundSeries | None:
        """The series to which a label map refers.

        Of several the one that has all images that it refers to; where that does not decide it, the one as which its
        reader takes it, if a file is given. Where that is refused, the one that has most of the images, then one with
        its frame of reference, then the first that it names; the error is raised when the label map is read. Of a file
        that names no series and no images, the only series of its study.
        """
        named = [self.series[uid] for uid in label.series if uid in self.series]
        if not label.series and not label.images:
            of_study = [s for s in self.series.values() if s.series.study == label.study]
            return of_study[0] if len(of_study) == 1 else None
        images = set(label.images)
        candidates = named if label.series else [s for s in self.series.values() if images & set(s.series.instances)]

        with_all = [s for s in candidates if images and images <= set(s.series.instances)]
        if len(candidates) > 1 and len(with_all) != 1 and file is not None:
            with contextlib.suppress(VolumeError):
                table = read_header(file).segments
                with_all = [] if table is None else [s for s in candidates if s.series.uid == table.series]
        if len(with_all) == 1:
            return with_all[0]

        def rank(series: FoundSeries) -> tuple[int, bool]:
            frames = label.frames_of_reference
            return len(images.intersection(series.series.instances)), series.series.frame_of_reference in frames

        return max(candidates, key=rank, default=None)


def _series_of(folder: str, index: FolderIndex) -> Iterator[FoundSeries]:
    parts = tuple(p for p in folder.split("/") if p)
    for series in index.series:
        if len(index.series) == 1:
            yield FoundSeries(folder or ".", series, parts)
            continue
        name = re.sub(r"[^\w.-]+", "_", series.description).strip("_") or series.modality
        yield FoundSeries(_join(folder, series.file), series, (*parts, f"{series.number}_{name}"))


def _nearest(files: Sequence[tuple[str, LabelObject]], path: str) -> tuple[str, LabelObject]:
    """The file that is nearest to a path."""
    return min(files, key=lambda item: _distance(item[0], path))


def _distance(file: str, folder: str) -> tuple[int, str]:
    """Number of folders between a file and another path, then the file."""
    one, other = file.split("/")[:-1], folder.split("/")
    common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return len(one) + len(other) - 2 * common, file


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
