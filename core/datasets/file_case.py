"""A case of files that belong to no data set: images, a reference and a segmentation, whose values are named by hand.

Each of the two segmentations becomes a data set of one subject (:class:`core.datasets.Dataset`) with the classes of
both, so that whatever reads subjects of data sets reads them: geometry is compared, and nothing is resampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.datasets.layouts.base import Dataset, ImageRef, Subject
from core.datasets.layouts.files import image_stem
from core.datasets.loading import read_subject_headers
from core.datasets.segmentation_values import SegmentationValues
from core.datasets.subject_labels import read_label_values
from core.errors import DatasetError, VolumeError
from core.formatting import format_list
from core.imaging.dicom_folders import index_folder
from core.imaging.headers import read_header
from core.imaging.image_files import foreign_format, label_object
from core.labels import BACKGROUND, IGNORE_COLOUR, LabelClass, LabelSpace, is_ignore_name

REFERENCE, SEGMENTATION = "reference", "segmentation"
ROLES = (REFERENCE, SEGMENTATION)
IGNORE = "ignore"
MERGED_RANGE = 2**20  # of values of which several are one class

Names = Mapping[int, str]  # of the class by label value


@dataclass(frozen=True)
class FileCase:
    """A case of files.

    Attributes
    ----------
    id : str. Name of the case: that of its first image.
    labels : LabelSpace. The classes of both segmentations, background first; raw values are class indices.
    images : Dataset. The images alone.
    segmentations : dict of Dataset. The images with the reference, and with the segmentation, in these classes.
    """

    id: str
    labels: LabelSpace
    images: Dataset
    segmentations: Mapping[str, Dataset]


def image_refs(paths: Sequence[Path]) -> dict[str, ImageRef]:
    """The images of files, one for each channel, by a name for each.

    Raises
    ------
    VolumeError
        If a file cannot be read.
    """
    refs: dict[str, ImageRef] = {}
    for path in paths:
        channels, stem = read_header(path).channels, _title(path)
        for channel in range(channels):
            name = stem if channels == 1 else f"{stem}, channel {channel + 1}"
            number = 1
            while name in refs:
                number += 1
                name = f"{stem} ({number})" if channels == 1 else f"{stem} ({number}), channel {channel + 1}"
            refs[name] = ImageRef(path, channel)
    return refs


def default_names(found: Mapping[str, SegmentationValues]) -> dict[str, dict[int, str]]:
    """Names of the values of each segmentation to begin with.

    A value has the name that its file states; else the one that the other file states for this value; else "label 3".
    Names that differ in case alone are one; a name that a file states for two values gets the value behind it. Negative
    values of the reference are the ignore label.

    Parameters
    ----------
    found : mapping. Contents by role (:data:`ROLES`).
    """
    stated = {role: _stated(content) for role, content in found.items()}
    spelled: dict[str, str] = {}
    names: dict[str, dict[int, str]] = {}
    for role in (role for role in ROLES if role in found):
        others = {v: n for other, of_other in stated.items() if other != role for v, n in of_other.items()}
        names[role] = {}
        for label in found[role].values:
            ignored = IGNORE if label.value < 0 and role == REFERENCE else f"label {label.value}"
            name = stated[role].get(label.value) or others.get(label.value) or ignored
            names[role][label.value] = spelled.setdefault(name.casefold(), name)
    return names


def file_case(
    paths: Sequence[Path],
    found: Mapping[str, SegmentationValues],
    names: Mapping[str, Names],
    nan_is_zero: bool = False,
) -> FileCase:
    """The case of some files.

    Parameters
    ----------
    paths : sequence of Path. Image files, on one grid; each channel of a file is a modality.
    found : mapping of SegmentationValues. One or two segmentations by role (:data:`ROLES`).
    names : mapping. Class of each value, by role. Values of one name are one class, in both files; values that are
        named "background", or "", are no class; one that is named "ignore" is left out of the reference.
    nan_is_zero : bool. Whether NaN is read as 0.

    Raises
    ------
    DatasetError
        If no value is a class, or the ignore label is not one value of the reference.
    VolumeError
        If an image cannot be read.
    """
    refs = image_refs(paths)
    id = _title(paths[0])
    names = _one_spelling({role: names[role] for role in found})
    classes = list(dict.fromkeys(name for role in found for name in names[role].values() if _is_class(name)))
    labels = _label_space(paths, found, names, classes)
    images = Dataset(
        paths[0].parent, "", "own files", tuple(refs), labels, (Subject(id, refs, None),), nan_is_zero=nan_is_zero
    )
    segmentations = {role: _segmented(images, content, names[role], role) for role, content in found.items()}
    space = replace(labels, ignore=segmentations[REFERENCE].labels.ignore) if REFERENCE in segmentations else labels
    return FileCase(id, space, images, segmentations)


def read_segmentation(dataset: Dataset) -> tuple[np.ndarray, tuple[str, ...]]:
    """A segmentation of a :class:`FileCase` in canonical order, and what was assumed about it.

    Returns
    -------
    ndarray, uint8, shape (i, j, k), and tuple of str
        Class indices, :data:`core.labels.IGNORE_INDEX` where ignored; warnings about the values.

    Raises
    ------
    DatasetError, VolumeError
        If it is not on the grid of the images, cannot be read, or holds a value without a class.
    """
    (subject,) = dataset.subjects
    assert subject.label is not None, "a data set of a segmentation"
    files = read_subject_headers(dataset, subject)
    volume = read_label_values(dataset, subject, files.geometries[subject.label])
    return dataset.to_index(volume.data[0]), tuple(f"{subject.label.name}: {text}" for text in volume.warnings)


def check_headers(case: FileCase) -> tuple[list[str], list[str]]:
    """Check, reading only headers, that the files of a case exist and are on one grid.

    Returns
    -------
    list of str, list of str
        What in the headers may make a result wrong, and what is unusual and harmless; each names its files.

    Raises
    ------
    DatasetError
        If a file is not on the grid of the first image; the message states how they differ.
    VolumeError
        If a header is invalid.
    """
    read = [read_subject_headers(dataset, dataset.subjects[0]) for dataset in case.segmentations.values()]
    remarks = ([r for files in read for r in files.warnings], [r for files in read for r in files.notes])
    return _by_text(remarks[0]), _by_text(remarks[1])


def _title(path: Path) -> str:
    """Name of an image: of its file or folder; of a file that stands for its DICOM series, the series' description."""
    stem = image_stem(path.name) or path.name
    if path.is_dir() or foreign_format(path) != "dicom" or label_object(path) is not None:
        return stem
    found = [s for s in index_folder(path.parent).series if s.file == path.name]
    return found[0].description or f"series {found[0].number}" if found else stem


def _by_text(remarks: Sequence[tuple[Path, str]]) -> list[str]:
    """Each remark once, behind the names of all files that it is about."""
    names: dict[str, dict[str, None]] = {}
    for path, text in remarks:
        names.setdefault(text, {})[path.name] = None
    return [f"{', '.join(files)}: {text}" for text, files in names.items()]


def _stated(content: SegmentationValues) -> dict[int, str]:
    """Stated names by value, each different from the others."""
    stated = {label.value: label.name.strip() for label in content.values if label.name.strip()}
    folded = [name.casefold() for name in stated.values()]
    return {v: f"{name} ({v})" if folded.count(name.casefold()) > 1 else name for v, name in stated.items()}


def _one_spelling(names: Mapping[str, Names]) -> dict[str, dict[int, str]]:
    """Names that differ in case alone in the spelling of the first one."""
    spelled: dict[str, str] = {}
    return {
        role: {value: spelled.setdefault(n.strip().casefold(), n.strip()) for value, n in of_role.items()}
        for role, of_role in names.items()
    }


def _is_class(name: str) -> bool:
    return name.casefold() not in ("", BACKGROUND) and not is_ignore_name(name)


def _label_space(
    paths: Sequence[Path], found: Mapping[str, SegmentationValues], names: Mapping[str, Names], classes: list[str]
) -> LabelSpace:
    """The classes of both segmentations, with the colours that their files state."""
    if not classes:
        files = format_list([content.path.name for content in found.values()])
        raise DatasetError(
            f"{paths[0].name}: expected a segmentation with labelled voxels, got none in {files}; choose another file, "
            "or name its values"
        )
    colours: dict[int, str] = {}
    for role, content in found.items():
        for label in content.values:
            name = names[role].get(label.value, "")
            if label.colour and name in classes:
                colours.setdefault(classes.index(name) + 1, label.colour)
    return LabelSpace.from_raw({0: BACKGROUND, **dict(enumerate(classes, 1))}, ignore="none", colours=colours)


def _segmented(images: Dataset, content: SegmentationValues, names: Names, role: str) -> Dataset:
    """The data set of the images with one segmentation, in the classes of ``images``."""
    raw_of: dict[str, int] = {BACKGROUND: 0}
    value_map: dict[int, int] = {}
    ignored: list[int] = []
    for label in content.values:
        name = names.get(label.value, "")
        if is_ignore_name(name):
            ignored.append(label.value)
            continue
        raw = raw_of.setdefault(name if _is_class(name) else BACKGROUND, label.value)
        if raw != label.value:
            value_map[label.value] = raw
    if len(ignored) > 1 or (ignored and role != REFERENCE):
        values = format_list([str(value) for value in ignored])
        raise DatasetError(
            f"{content.path.name}: expected one ignore label, in the reference, got {values} named so in the {role}; "
            "name them background or a class"
        )
    if value_map and max(map(abs, value_map)) >= MERGED_RANGE:
        raise DatasetError(
            f"{content.path.name}: expected values below {MERGED_RANGE} where several are one class, got "
            f"{max(value_map, key=abs)}; give it a name of its own"
        )
    free = max((abs(label.value) for label in content.values), default=0)
    classes = []
    for label_class in images.labels.classes:
        if label_class.name not in raw_of:  # a class of the other file
            free += 1
            raw_of[label_class.name] = free
        classes.append(LabelClass(label_class.name, label_class.colour, raw_of[label_class.name]))
    ignore = LabelClass(IGNORE, IGNORE_COLOUR, ignored[0]) if ignored else None
    if free >= 2**31:
        raise VolumeError(f"{content.path.name}: expected label values of 32 bits, got {free}; renumber them")
    subject = replace(images.subjects[0], label=content.path)
    return replace(images, labels=LabelSpace(tuple(classes), ignore), subjects=(subject,), value_map=value_map)
