"""Files that a ``dataset.json`` lists: paths as other systems write them, subject ids, and images that are left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath

from core.datasets.layouts.base import ImageRef, Subject, natural_key
from core.datasets.layouts.files import image_stem, is_image_name
from core.formatting import format_count, format_list
from core.imaging.image_files import PAIR_SUFFIXES

TEST_FOLDER = "imagesTs"  # of images without label maps, beside imagesTr


def resolve_listed(folder: Path, text: str) -> Path:
    """The file of a path in the ``dataset.json`` of a folder, with slashes or with the backslashes of Windows.

    An absolute path that does not exist here, as of another machine, is looked for in the folder, by as many of its
    last parts as possible.
    """
    path = folder / text
    windows, foreign = PureWindowsPath(text), is_elsewhere(text)
    if (not foreign and "\\" not in text) or _exists(path):
        return path
    parts = windows.parts[1:] if foreign else windows.parts
    if foreign:
        tails = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
        return next((tail for tail in tails if _exists(tail)), folder.joinpath(*parts[-2:]))
    return folder.joinpath(*parts)


def is_elsewhere(text: str) -> bool:
    """Whether a listed path is absolute, on this system or on Windows."""
    path = PureWindowsPath(text)
    return bool(path.drive or path.root)


def subject_ids(folder: Path, images: Sequence[Path]) -> list[str]:
    """Ids of subjects from the files of their images: file names, or where these repeat, names of folders too.

    Folders are added from the innermost outwards until the ids differ, and parts that are the same in all ids are left
    out: ``case1/image.nii.gz`` and ``case2/image.nii.gz`` are ``case1`` and ``case2``. Ids repeat where images do.
    """
    names = [(*_relative(folder, image).parent.parts, image_stem(image.name)) for image in images]
    for depth in range(1, max(map(len, names), default=0) + 1):
        tails = [name[-depth:] for name in names]
        if len(set(tails)) < len(tails):
            continue
        if depth > 1 and len({len(tail) for tail in tails}) == 1:
            varying = [len(set(parts)) > 1 for parts in zip(*tails, strict=True)]
            tails = [tuple(part for part, varies in zip(tail, varying, strict=True) if varies) for tail in tails]
        ids = ["-".join(tail) for tail in tails]
        if len(set(ids)) == len(ids):
            return ids
    return [name[-1] for name in names]


def unlisted_images(folder: Path, listed: Iterable[Path]) -> list[str]:
    """Names of the images in a folder that are not listed, in natural order; a pair counts once, by either file."""
    known = {_image_key(path.name) for path in listed}
    try:
        names = sorted((p.name for p in folder.iterdir()), key=natural_key) if folder.is_dir() else []
    except OSError:
        return []  # reading the listed images reports the error
    unlisted = {_image_key(name): name for name in reversed(names) if is_image_name(name)}
    return sorted((name for key, name in unlisted.items() if key not in known), key=natural_key)


def prediction_subjects(images: Mapping[str, dict[str, ImageRef]], others: Iterable[str]) -> list[Subject]:
    """Subjects of a test set, which have no label map; the name of the folder precedes ids that others have.

    Parameters
    ----------
    images : mapping. Images by modality, by id.
    others : iterable of str. Ids of the other subjects.
    """
    taken = {id.casefold() for id in others}
    ids = {id: f"{TEST_FOLDER}-{id}" if id.casefold() in taken else id for id in images}
    return [Subject(ids[id], dict(refs), None, for_prediction=True) for id, refs in images.items()]


def layout_notes(folder: Path, subjects: Sequence[Subject]) -> list[str]:
    """Notes on subjects for prediction, on folders of images of which none is read, and on those that cannot be."""
    notes: list[str] = []
    counts: dict[str, int] = {}
    closed: list[str] = []
    predicted = [s.id for s in subjects if s.for_prediction]
    if predicted:
        count = format_count(len(predicted), "subject")
        notes.append(f"{count} without label map, for prediction only: {format_list(predicted, 4)}")
    read = {_relative(folder, path).parts[0] for subject in subjects for path in subject.files}
    try:
        folders = sorted(
            p for p in folder.iterdir() if p.name not in read and not p.name.startswith(".") and p.is_dir()
        )
    except OSError:
        return notes
    for path in folders:
        try:
            counts[path.name] = sum(map(is_image_name, os.listdir(path)))
        except OSError:
            closed.append(path.name)
    if closed:
        notes.append(f"{format_count(len(closed), 'folder')} cannot be read: {format_list(closed, 4)}")
    unread = [f"{name} ({format_count(count, 'image file')})" for name, count in counts.items() if count]
    if unread:
        notes.append(
            f"folders that are not read, since dataset.json does not name them: {format_list(unread, 4)}; another "
            "layout (--layout) or a description (data describe) can read them"
        )
    return notes


def _image_key(name: str) -> str:
    """The same text for both files of a pair, and a different one for every other image."""
    return f"{image_stem(name)}/pair" if name.lower().endswith(PAIR_SUFFIXES) else name


def _relative(folder: Path, path: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
