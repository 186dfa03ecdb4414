"""Data set, subject and image reference as every layout produces them, and the protocol of a layout."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
    label : Path or None. Label map.
    """

    id: str
    images: dict[str, ImageRef]
    label: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the images, then the label map."""
        images = dict.fromkeys(ref.path for ref in self.images.values())
        return (*images, *([self.label] if self.label is not None else []))


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
    labels_follow_images : bool. Whether voxels are aligned as stored where the orientation in a header contradicts that
        of the subject's first image; known to hold for the published data of some layouts.
    nan_is_zero : bool. Whether NaN in its files is read as 0.

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
    labels_follow_images: bool = False
    nan_is_zero: bool = False

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
        """Ids of the subjects with a label map, which training and evaluation need."""
        return tuple(s.id for s in self.subjects if s.label is not None)

    def subject(self, id: str) -> Subject:
        """The subject with this id.

        Raises
        ------
        DatasetError
            If there is none.
        """
        for subject in self.subjects:
            if subject.id == id:
                return subject
        raise DatasetError(f"{self.path}: expected one of the subjects {format_list(self.ids)}; got {id!r}")


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


def natural_key(id: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that orders digits by value: subject-2 before subject-10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", id)
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts)
