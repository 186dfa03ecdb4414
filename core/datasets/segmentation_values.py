"""The values of one segmentation file, and the names that the file, or a table beside it, gives them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.datasets.layouts.class_tables import read_class_table
from core.datasets.layouts.colour_files import MAX_FILES, SUFFIXES
from core.datasets.layouts.files import image_stem
from core.errors import UserError, VolumeError
from core.formatting import format_list
from core.imaging.headers import Header, read_fields, read_header
from core.imaging.image_files import FOREIGN_FORMATS
from core.imaging.slicer_segments import read_slicer_segments
from core.imaging.volume import read_label
from core.labels import MAX_CLASSES

TABLE_SUFFIXES = (*SUFFIXES, ".tsv")
COUNTED_RANGE = 2**20  # of values that are counted by a table, which is faster than by sorting
DESCRIBED = re.compile(r"labels: (.+)")
DESCRIBED_CLASS = re.compile(r"(-?\d+) (.+)")


@dataclass(frozen=True)
class LabelValue:
    """One value of a label map other than 0.

    Attributes
    ----------
    value : int.
    voxels : int. Voxels with it.
    name, colour : str. As stated in or beside the file, ``#rrggbb``; empty where nothing is stated.
    """

    value: int
    voxels: int
    name: str = ""
    colour: str = ""


@dataclass(frozen=True)
class SegmentationValues:
    """What a segmentation file holds.

    Attributes
    ----------
    path : Path.
    values : tuple of LabelValue. In ascending order; empty for a file without labelled voxels.
    names_from : str. Where the names are from, such as "labels.label"; empty without names.
    voxel_ml : float. Volume of a voxel in ml.
    """

    path: Path
    values: tuple[LabelValue, ...]
    names_from: str
    voxel_ml: float


def read_segmentation_values(
    path: Path, tables: Sequence[Path] = (), *, nan_is_zero: bool = False
) -> SegmentationValues:
    """Read a segmentation, and look for the names of its values.

    Names are taken from the file itself (DICOM SEG and RTSTRUCT, 3D Slicer, the description of an exported prediction),
    else from the first of: a given table, a table beside it that has its name, the only table of its folder that names
    all of its values. Tables are those of ITK-SNAP, 3D Slicer, FreeSurfer and BIDS.

    Parameters
    ----------
    tables : sequence of Path. Tables of classes that name its values.
    nan_is_zero : bool. Whether NaN is read as 0.

    Raises
    ------
    VolumeError
        If it cannot be read, is no map of one label per voxel, or has more different values than there may be classes.
    DatasetError
        If a given table cannot be read.
    """
    header = read_header(path)
    if header.channels > 1:
        raise VolumeError(_several_channels(header))
    counts = _count(read_label(path, nan_is_zero=nan_is_zero).data)
    counts.pop(0, None)
    if len(counts) >= MAX_CLASSES:
        raise VolumeError(
            f"{path}: expected a segmentation of at most {MAX_CLASSES - 1} label values, got {len(counts)} different "
            "values; is it an image?"
        )
    given = {entry.value: (entry.name, entry.colour) for table in tables for entry in read_class_table(table)}
    named, source = (given, format_list([t.name for t in tables])) if given else _names(header, set(counts))
    values = tuple(LabelValue(v, n, *named.get(v, ("", ""))) for v, n in sorted(counts.items()))
    return SegmentationValues(
        path, values, source if any(v.name for v in values) else "", header.geometry.voxel_volume_mm3 / 1000
    )


def tables_beside(path: Path) -> list[Path]:
    """Files in the folder of a segmentation that may be tables of classes."""
    try:
        files = [p for p in path.parent.iterdir() if p.suffix.lower() in TABLE_SUFFIXES and not p.name.startswith(".")]
    except OSError:
        return []
    return sorted(files)[:MAX_FILES]


def _count(values: np.ndarray) -> dict[int, int]:
    """Voxels by value."""
    low, high = int(values.min()), int(values.max())
    if high - low < COUNTED_RANGE:
        counts = np.bincount((values - low).ravel(), minlength=1)
        return {int(n) + low: int(counts[n]) for n in np.flatnonzero(counts)}
    found, numbers = np.unique(values, return_counts=True)
    return {int(value): int(n) for value, n in zip(found, numbers, strict=True)}


def _several_channels(header: Header) -> str:
    segments = read_slicer_segments(header.path)
    if segments:
        return (
            f"{header.path}: expected one label per voxel, got a 3D Slicer segmentation with {header.channels} layers "
            f"of segments that overlap ({format_list([s.name for s in segments], 4)}); export it as a label map, in "
            "which each voxel has one segment"
        )
    return (
        f"{header.path}: expected a 3-D segmentation with one label per voxel, got {header.channels} channels; "
        "write one label per voxel, or choose the file as the image"
    )


def _names(header: Header, values: set[int]) -> tuple[dict[int, tuple[str, str]], str]:
    """Names and colours by value, and where they are from."""
    path = header.path
    if header.segments is not None:
        return {s.number: (s.name, s.colour) for s in header.segments.segments}, path.name
    slicer = read_slicer_segments(path)
    if slicer:
        return {s.value: (s.name, s.colour) for s in slicer}, path.name
    described = _described(header)
    if values and values <= described.keys():
        return {value: (name, "") for value, name in described.items()}, "the description in the file"
    own = [table for table in tables_beside(path) if table.stem == image_stem(path.name)]
    for table in own:
        if found := _read_table(table):
            return found, table.name
    complete = {table: found for table in tables_beside(path) if values <= (found := _read_table(table)).keys()}
    if values and len(complete) == 1:
        ((table, found),) = complete.items()
        return found, table.name
    return {}, ""


def _described(header: Header) -> dict[int, str]:
    """Names by value that the description of a NIfTI file states, as exported predictions do."""
    if header.format in FOREIGN_FORMATS or header.format == "analyze":
        return {}
    try:
        text = bytes(read_fields(header.path)[0]["descrip"]).rstrip(b"\0").decode("ascii", "replace")
    except (VolumeError, ValueError):
        return {}
    match = DESCRIBED.fullmatch(text.strip())
    entries = [DESCRIBED_CLASS.fullmatch(part) for part in match[1].split(", ")] if match else []
    return {int(entry[1]): entry[2] for entry in entries if entry is not None and not entry[2].endswith("...")}


def _read_table(path: Path) -> dict[int, tuple[str, str]]:
    """Name and colour by value; empty for a file that is no table of classes."""
    with contextlib.suppress(UserError):
        return {entry.value: (entry.name, entry.colour) for entry in read_class_table(path)}
    return {}
