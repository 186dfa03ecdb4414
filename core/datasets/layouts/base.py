"""What a data set is, whatever its folder looks like: subjects with images and labels, and the classes they use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import DatasetError
from core.labels import LabelSpace


@dataclass(frozen=True)
class ImageRef:
    """One modality of one subject: a file and the channel of it, counted from 0."""

    path: Path
    channel: int = 0


@dataclass(frozen=True)
class Subject:
    """One subject: images by modality, and a label map unless it has none. The files need not exist: opening a data set
    reads no image."""

    id: str
    images: dict[str, ImageRef]
    label: Path | None


@dataclass(frozen=True)
class Dataset:
    """A folder of subjects.

    Attributes
    ----------
    path : the folder.
    layout : how it is organised, a key of :data:`core.datasets.LAYOUTS`.
    name : for people.
    modalities : names of the images that subjects have, in channel order.
    labels : the classes; the first is the background.
    subjects : in natural order of their ids (2 before 10).
    synthetic : made by the program, not measured; said wherever it is shown.
    description, licence : from the data set itself, may be empty.
    notes : what was noticed on opening and is no error.
    labels_follow_images : where the orientation in a header contradicts that of the subject's first image, the
        voxels line up as stored (known of this layout's published data), and the image's orientation holds.
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

    def __post_init__(self) -> None:
        twice = sorted((id for id, times in Counter(self.ids).items() if times > 1), key=natural_key)
        if twice:
            raise DatasetError(f"{self.path}: expected every subject once, got {', '.join(twice)} more than once")
        object.__setattr__(self, "subjects", tuple(sorted(self.subjects, key=lambda s: natural_key(s.id))))

    @property
    def ids(self) -> tuple[str, ...]:
        """The subjects' ids, in natural order."""
        return tuple(s.id for s in self.subjects)

    @property
    def labelled_ids(self) -> tuple[str, ...]:
        """The ids of the subjects that have a label map: what can be trained and evaluated on."""
        return tuple(s.id for s in self.subjects if s.label is not None)

    def subject(self, id: str) -> Subject:
        """One subject by id.

        Raises
        ------
        DatasetError
            If there is none.
        """
        for subject in self.subjects:
            if subject.id == id:
                return subject
        raise DatasetError(f"{self.path}: expected one of the subjects {shortened(self.ids)}; got {id!r}")


@dataclass(frozen=True)
class Layout:
    """One way to organise a folder.

    Attributes
    ----------
    name : as in ``--layout``.
    title : for people.
    expects : what such a folder holds, as the end of "expected ...".
    recognises : whether a folder (which exists and can be listed) is meant to be one.
    open : the folder as a data set; raises DatasetError where it is not a usable one. No image is read.
    """

    name: str
    title: str
    expects: str
    recognises: Callable[[Path], bool]
    open: Callable[[Path], Dataset]


def natural_key(id: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that counts: subject-2 comes before subject-10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", id)
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts)


def shortened(names: tuple[str, ...] | list[str], most: int = 8) -> str:
    """``a, b, c and 5 more``."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
