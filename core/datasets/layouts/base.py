"""Data set, subject and image reference as every layout produces them, and the protocol of a layout."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from core.datasets.layouts.recipe import Recipe
from core.errors import DatasetError
from core.formatting import format_list
from core.labels import LabelSpace


@dataclass(frozen=True)
class ImageRef:
    """One modality of one subject.

    Attributes
    ----------
    path : Path. Image file.
    channel : int. Channel of the file, from 0.
    """

    path: Path
    channel: int = 0


@dataclass(frozen=True)
class Subject:
    """Files of one subject; they need not exist, because opening a data set reads no image.

    Attributes
    ----------
    id : str. Unique id in the data set.
    images : dict. Images by modality.
    label : Path or None. Label map; of several masks the first.
    masks : dict. Label value by mask file, where each class has a file of its own (voxels 0 or not 0); else empty.
    entities : dict. Parts of the file names, such as case, session and site, where the layout defines them.
    raters : dict. Label maps by rater, where several have drawn one; ``label`` is the chosen one.
    for_prediction : bool. Whether the data set states that it has no label map, such as a case of a test set.
    """

    id: str
    images: dict[str, ImageRef]
    label: Path | None
    masks: Mapping[Path, int] = field(default_factory=dict)
    entities: Mapping[str, str] = field(default_factory=dict)
    raters: Mapping[str, Path] = field(default_factory=dict)
    for_prediction: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the images, then the label map, or its masks."""
        images = dict.fromkeys(ref.path for ref in self.images.values())
        labels = self.masks or ([self.label] if self.label is not None else [])
        return (*images, *labels)


@dataclass(frozen=True)
class Dataset:
    """A folder of subjects.

    Attributes
    ----------
    path : Path. Folder.
    layout : str. Name of the layout, a key of :data:`core.datasets.LAYOUTS`.
    name : str. Name on screen.
    modalities : tuple of str. Modalities of the subjects, in channel order.
    labels : LabelSpace. Classes, background first, and the ignore label.
    subjects : tuple of Subject. In natural order of their ids (2 before 10).
    synthetic : bool. Whether the data is computed instead of measured.
    description, licence : str. As the data set states them; empty otherwise.
    notes : tuple of str. Observations on opening that are not errors.
    warnings : tuple of str. Those that may make a result wrong, such as files that cannot be read.
    labels_follow_images : bool. Whether voxels are aligned as stored where the orientation in a header contradicts that
        of the subject's first image; known to hold for the published data of some layouts.
    nan_is_zero : bool. Whether NaN in its files is read as 0.
    value_map : dict. Label value of the class by value in the files, where the two differ: classes that are merged.
    regions : dict. Names of the classes whose union a region is, by name of the region (:mod:`core.regions`).
    region_order : dict. Name of the class that each region is painted with; empty where the data set does not state it.
    reason : str. Why the folder is read in this layout; empty where the layout was asked for.
    unlabelled_expected : bool. Whether subjects without a label map are part of the data set, such as a test set.
    missing_modalities : str. What is done with subjects that lack an image of a needed modality: "refuse" (an error),
        "leave_out" (they are not trained on), or "zero" (an image of 0 in every voxel).
    needed : tuple of str. Needed modalities; empty for all.
    later_mask_wins : bool. Whether voxels in several masks or segments of a subject get the class listed last; else an
        error.
    segments : dict. Label value by name of a segment in lower case, where label maps name theirs (DICOM SEG, RTSTRUCT).
    recipe : Recipe. Repairs on reading; ``subjects``, ``labels`` and ``nan_is_zero`` have them already.

    Raises
    ------
    DatasetError
        If an id occurs twice.
    """

    path: Path
    layout: str
    name: str
    modalities: tuple[str, ...]
    labels: LabelSpace
    subjects: tuple[Subject, ...]
    synthetic: bool = False
    description: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    labels_follow_images: bool = False
    nan_is_zero: bool = False
    value_map: Mapping[int, int] = field(default_factory=dict)
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    region_order: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    unlabelled_expected: bool = False
    later_mask_wins: bool = False
    segments: Mapping[str, int] = field(default_factory=dict)
    missing_modalities: str = "refuse"
    needed: tuple[str, ...] = ()
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        repeated = sorted((id for id, count in Counter(self.ids).items() if count > 1), key=natural_key)
        if repeated:
            raise DatasetError(f"{self.path}: expected every subject once, got {', '.join(repeated)} more than once")
        object.__setattr__(self, "subjects", tuple(sorted(self.subjects, key=lambda s: natural_key(s.id))))

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the subjects, in natural order."""
        return tuple(s.id for s in self.subjects)

    @property
    def labelled_ids(self) -> tuple[str, ...]:
        """Ids of the subjects with a label map, which training and evaluation need, without those that are left out."""
        return tuple(self.labelled)

    @property
    def labelled(self) -> dict[str, Mapping[str, str]]:
        """Parts of their file names (``entities``) by id of the labelled subjects."""
        return {s.id: s.entities for s in self.subjects if s.label is not None and not self.leaves_out(s)}

    def leaves_out(self, subject: Subject) -> bool:
        """Whether a subject is not trained on, because it lacks an image of a needed modality."""
        lacks = any(m not in subject.images for m in self.needed or self.modalities)
        return self.missing_modalities == "leave_out" and lacks

    def is_predicted_only(self, subject: Subject) -> bool:
        """Whether a subject has no label map and need not have one."""
        return subject.label is None and (self.unlabelled_expected or subject.for_prediction)

    def absent(self, subject: Subject, modalities: Sequence[str]) -> tuple[str, ...]:
        """Modalities, of the given ones, that a subject lacks and that are read as an image of 0 in every voxel."""
        lacking = tuple(m for m in modalities if m not in subject.images)
        return lacking if self.missing_modalities == "zero" and len(lacking) < len(modalities) else ()

    def subject(self, id: str) -> Subject:
        """The subject with this id.

        Raises
        ------
        DatasetError
            If there is none.
        """
        found = self._subject_of.get(id)
        if found is None:
            raise DatasetError(f"{self.path}: expected one of the subjects {format_list(self.ids)}; got {id!r}")
        return found

    def masks_of(self, label: Path) -> Mapping[Path, int]:
        """Label value by file of the masks whose first is this file; empty for a label map of its own."""
        return self._masks.get(label, {})

    def to_index(self, raw: np.ndarray) -> np.ndarray:
        """Convert values of its label maps to class indices, merged values included.

        Parameters
        ----------
        raw : ndarray, int32. Values as in the files.

        Returns
        -------
        ndarray, uint8, same shape. As :meth:`core.labels.LabelSpace.to_index`, which states the errors too.
        """
        if self.value_map:
            low, high = min(self.value_map), max(self.value_map)
            table = np.arange(low, high + 1, dtype=np.int32)
            table[[value - low for value in self.value_map]] = list(self.value_map.values())
            raw = np.where((raw >= low) & (raw <= high), table[np.clip(raw, low, high) - low], raw)
        return self.labels.to_index(raw)

    @property
    def raw_label_values(self) -> tuple[int, ...]:
        """Values that its label maps may hold: of classes, of values merged into them, and of the ignore label."""
        ignore = [self.labels.ignore.raw] if self.labels.ignore is not None else []
        return tuple(dict.fromkeys((*self.labels.raw_values, *self.value_map, *ignore)))

    @cached_property
    def _subject_of(self) -> dict[str, Subject]:
        return {s.id: s for s in self.subjects}

    @cached_property
    def _masks(self) -> dict[Path, Mapping[Path, int]]:
        return {s.label: s.masks for s in self.subjects if s.label is not None and s.masks}


class Layout(Protocol):
    """Organisation of a data set's folder.

    Attributes
    ----------
    name : str. Value of ``--layout``.
    title : str. Name on screen.
    expects : str. Content of such a folder, as a noun phrase that completes "expected".
    """

    name: str
    title: str
    expects: str

    def recognises(self, folder: Path) -> bool:
        """Whether an existing folder has this layout, judged by its file names.

        Raises
        ------
        OSError
            If the folder cannot be listed.
        """

    def open(self, folder: Path, ignore: str = "auto") -> Dataset:
        """List subjects and classes without reading an image.

        Parameters
        ----------
        folder : Path. An existing folder.
        ignore : str. The label that is left out, as in :meth:`core.labels.LabelSpace.from_raw`.

        Raises
        ------
        DatasetError
            If the folder is not a usable data set of this layout.
        OSError
            If the folder cannot be listed.
        """


class CodedLayout(Layout, Protocol):
    """A layout with code of its own, for which no description is enough.

    Attributes
    ----------
    reason : str. Why a folder that it recognises is opened as this layout, as a clause.
    """

    reason: str


def natural_key(id: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that orders digits by value: subject-2 before subject-10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", id)
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts)
