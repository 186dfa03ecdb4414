"""Named segments of a label map (DICOM SEG, RTSTRUCT): what voxels hold where they overlap, and the values they get.

Voxels are stored as numbers of *sets* of segments, so that segments that overlap are kept until it is known which of
them are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import VolumeError
from core.formatting import format_count, format_list

MAX_SETS = 2**16 - 1  # voxels are stored as uint16


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes
    ----------
    number : int. Its value, from 1.
    name : str.
    colour : str. ``#rrggbb``; empty if none is stated.
    """

    number: int
    name: str
    colour: str = ""


@dataclass(frozen=True)
class SegmentTable:
    """What the stored values of a label map with named segments mean.

    Attributes
    ----------
    segments : tuple of Segment. In the order of the file.
    sets : tuple of tuple of int. Numbers of the segments in a voxel, by stored value; the first one is empty.
    reference : str. Folder of the images on whose grid the label map was read.
    reference_stamp : str. State of that folder, as of :func:`core.imaging.image_files.folder_stamp`.
    series : str. UID of the series of these images.
    """

    segments: tuple[Segment, ...]
    sets: tuple[tuple[int, ...], ...]
    reference: str
    reference_stamp: str
    series: str

    @property
    def names(self) -> list[str]:
        """Names of the segments, each once."""
        return list(dict.fromkeys(s.name for s in self.segments))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SegmentTable:
        """The table of its JSON values (``dataclasses.asdict``)."""
        segments = tuple(Segment(int(s["number"]), str(s["name"]), str(s["colour"])) for s in content["segments"])
        sets = tuple(tuple(map(int, numbers)) for numbers in content["sets"])
        reference, stamp, series = (str(content[name]) for name in ("reference", "reference_stamp", "series"))
        return cls(segments, sets, reference, stamp, series)


@dataclass(frozen=True)
class SegmentValues:
    """The value that voxels of a segment get.

    Attributes
    ----------
    values : dict. Label value by name of the segment, in lower case (:func:`segment_key`); others are background.
    later_wins : bool. Whether voxels in several segments get the highest value; else they are an error.
    """

    values: Mapping[str, int]
    later_wins: bool = False


class SegmentSets:
    """Collects segments, which may overlap, in one array of sets.

    Parameters
    ----------
    shape : tuple of int. Voxels along k, j, i.

    Attributes
    ----------
    stored : ndarray, uint16, of this shape. Number of the set of each voxel.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.stored = np.zeros(shape, np.uint16)
        self._sets: list[tuple[int, ...]] = [()]
        self._number_of: dict[tuple[int, ...], int] = {(): 0}

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        return tuple(self._sets)

    def add(self, part: np.ndarray, inside: np.ndarray, number: int) -> None:
        """Add a segment to voxels.

        Parameters
        ----------
        part : ndarray. A view of :attr:`stored`.
        inside : ndarray, bool, same shape. The voxels.
        number : int. Number of the segment.

        Raises
        ------
        ValueError
            If there are too many different sets.
        """
        present = part[inside]
        for old in np.unique(present):
            numbers = tuple(sorted({*self._sets[old], number}))
            new = self._number_of.setdefault(numbers, len(self._sets))
            if new == len(self._sets):
                self._sets.append(numbers)
            if new > MAX_SETS:
                raise ValueError(f"expected at most {MAX_SETS} combinations of overlapping segments, got more")
            part[inside & (part == old) if len(present) < part.size else part == old] = new


def refuse_segments(path: Path, segments: SegmentTable | None) -> None:
    """Refuse named segments where an image is expected.

    Raises
    ------
    VolumeError
        If the file holds segments.
    """
    if segments is not None:
        raise VolumeError(
            f"{path}: expected an image, got segments or contours ({format_list(segments.names, 4)}); "
            "name the folder of the image itself"
        )


def segment_key(name: str) -> str:
    """Text by which names of segments are compared: case and white space at the ends do not count."""
    return name.strip().casefold()


def segment_values(path: Path, table: SegmentTable, stored: np.ndarray, wanted: SegmentValues | None) -> np.ndarray:
    """Label values of stored ones, int32, same shape.

    Parameters
    ----------
    path : Path. The file, for errors.
    wanted : SegmentValues or None. Values by name; ``None`` for the numbers of the segments, which must not overlap.

    Raises
    ------
    VolumeError
        If a voxel is in several segments of different values and none of them wins.
    """
    names = {s.number: s.name for s in table.segments}
    value_of = {s.number: s.number for s in table.segments}
    if wanted is not None:
        value_of = {s.number: wanted.values.get(segment_key(s.name), 0) for s in table.segments}
    values = np.zeros(len(table.sets), np.int32)
    overlapping: dict[int, str] = {}
    for number, members in enumerate(table.sets):
        found = {value_of[m] for m in members} - {0}
        values[number] = max(found, default=0)
        if len(found) > 1 and not (wanted is not None and wanted.later_wins):
            overlapping[number] = " and ".join(dict.fromkeys(names[m] for m in members if value_of[m]))
    if overlapping:
        counts = np.bincount(stored.ravel(), minlength=len(table.sets))
        present: dict[str, int] = {}
        for n, text in overlapping.items():
            present[text] = present.get(text, 0) + int(counts[n])
        if any(present.values()):
            raise VolumeError(_overlap(path, present))
    return values[stored]


def _overlap(path: Path, found: Mapping[str, int]) -> str:
    """The message about segments that overlap, with the number of voxels by their names."""
    pairs = format_list([f"{text} ({format_count(n, 'voxel')})" for text, n in found.items() if n], 3)
    return (
        f"{path}: expected segments that do not overlap, got voxels in {pairs}; a label map has one class per voxel: "
        "name the classes that are read, the one that wins last, and let later ones win (data describe FOLDER "
        "--classes NAME=SEGMENT ... --overlap later --save)"
    )
