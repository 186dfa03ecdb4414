"""Files of segmentations that belong to the cases of a data set: those of a folder, by name, and those of a rater."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.datasets.layouts.base import Dataset, natural_key
from core.datasets.layouts.files import image_stem, is_image_name
from core.datasets.layouts.listing import list_folder
from core.errors import DatasetError
from core.formatting import format_list
from core.imaging.image_files import DICOM_LABELS, DICOM_SUFFIXES, VOXEL_SUFFIXES, dicom_class

SEPARATORS = "_-. "  # what ends the id of a case at the beginning of a file name


@dataclass(frozen=True)
class MatchedFiles:
    """Segmentation files by case.

    Attributes
    ----------
    files : dict. The file by id of the case, in the order of the data set.
    ambiguous : dict. Files by id of the case where several have its name, so that none of them is taken.
    unmatched : tuple of Path. Files that have the name of no case.
    """

    files: dict[str, Path] = field(default_factory=dict)
    ambiguous: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    unmatched: tuple[Path, ...] = ()


def segmentations_below(folder: Path) -> list[Path]:
    """Image files below a folder, and DICOM segmentations and contours, in natural order; of a pair the header.

    Raises
    ------
    DatasetError
        If the folder, or one in it, cannot be listed, or it holds too many files.
    """
    if not os.path.isdir(folder):
        raise DatasetError(f"{folder}: expected a folder of segmentation files, found none")
    try:
        listing = list_folder(folder)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror or error}; check its permissions") from error
    if listing.warnings:
        raise DatasetError(f"{folder}: expected a folder that can be read whole, got {listing.warnings[0]}")
    found = [folder / file for file in listing.files]
    return sorted((f for f in found if _is_segmentation(f)), key=lambda path: natural_key(str(path)))


def match_files(paths: Sequence[Path], ids: Sequence[str]) -> MatchedFiles:
    """Match files with cases by their names.

    A file belongs to the case whose id is its name, or the beginning of its name before one of :data:`SEPARATORS`; of
    several such ids to the longest one. A file whose name is the id goes before others of the same case.

    Parameters
    ----------
    paths : sequence of Path. Files of segmentations.
    ids : sequence of str. Ids of the cases.
    """
    named: dict[str, list[Path]] = {}
    unmatched = []
    for path in paths:
        stem = _stem(path)
        of_file = [id for id in ids if stem == id or (stem.startswith(id) and stem[len(id)] in SEPARATORS)]
        if of_file:
            named.setdefault(max(of_file, key=len), []).append(path)
        else:
            unmatched.append(path)
    files: dict[str, Path] = {}
    ambiguous: dict[str, tuple[Path, ...]] = {}
    for id in (id for id in ids if id in named):
        exact = [path for path in named[id] if _stem(path) == id]
        candidates = exact or named[id]
        if len(candidates) == 1:
            files[id] = candidates[0]
        else:
            ambiguous[id] = tuple(candidates)
    return MatchedFiles(files, ambiguous, tuple(unmatched))


def other_raters(dataset: Dataset) -> list[str]:
    """Raters whose label map is not the reference of at least one case, in natural order."""
    found = {name for s in dataset.subjects for name, file in s.raters.items() if file != s.label}
    return sorted(found, key=natural_key)


def rater_files(dataset: Dataset, rater: str) -> dict[str, Path]:
    """The label maps of a rater by case, without those that are the reference.

    Raises
    ------
    DatasetError
        If there is no such rater whose label maps are not the reference.
    """
    raters = other_raters(dataset)
    if rater not in raters:
        expected = f"one of the raters {format_list(raters)}" if raters else "a data set with several raters"
        raise DatasetError(f"{dataset.path}: expected {expected} beside the reference, got {rater!r}")
    return {s.id: s.raters[rater] for s in dataset.subjects if s.raters.get(rater, s.label) != s.label}


def _stem(path: Path) -> str:
    return path.stem if path.name.lower().endswith(DICOM_SUFFIXES) else image_stem(path.name)


def _is_segmentation(path: Path) -> bool:
    lower = path.name.lower()
    if lower.endswith(VOXEL_SUFFIXES):
        return False
    if lower.endswith(DICOM_SUFFIXES):
        return dicom_class(path) in DICOM_LABELS
    return is_image_name(path.name)
