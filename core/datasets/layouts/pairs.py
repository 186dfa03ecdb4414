"""Pairs of image and label map in a folder that no layout recognises, found by the names of folders and files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from core.datasets.layouts.base import natural_key
from core.datasets.layouts.files import image_stem, is_image_name

IMAGE_FOLDERS = ("imagestr", "images", "image", "imgs", "img", "volumes", "scans")
LABEL_FOLDERS = (
    "labelstr", "labels", "label", "masks", "mask", "segmentations", "segmentation", "segs", "seg", "annotations",
)  # fmt: skip
LABEL_WORDS = {"label", "labels", "seg", "segmentation", "mask", "gt", "groundtruth", "truth", "annotation"}
NEUTRAL_WORDS = {"image", "img", "scan", "volume", "0000", *LABEL_WORDS}  # left out when file names are compared
MAX_CASE_FOLDERS = 1000


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Image and label map of each case, in natural order, relative to the folder; empty where none are recognised.

    Either two parallel folders hold them under corresponding names, such as ``imagesTr`` and ``labelsTr``; or each case
    has a folder with one image and one file that is named as a label map.

    Raises
    ------
    OSError
        If a folder cannot be listed.
    """
    folders = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")}
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    labels = next((folders[name] for name in LABEL_FOLDERS if name in folders), None)
    if images is not None and labels is not None:
        pairs = _pairs_by_name(_images_in(images), _images_in(labels))
    else:
        cases = (_pair_of_case(_images_in(case)) for case in list(folders.values())[:MAX_CASE_FOLDERS])
        pairs = [pair for pair in cases if pair is not None]
    relative = [(image.relative_to(folder), label.relative_to(folder)) for image, label in pairs]
    return sorted(relative, key=lambda pair: natural_key(pair[0].as_posix()))


def _images_in(folder: Path) -> list[Path]:
    """Images in a folder; of a pair of files only the header."""
    paths = sorted(p for p in folder.iterdir() if is_image_name(p.name))
    headers = {image_stem(p.name) for p in paths if re.search(r"\.hdr(\.gz)?$", p.name.lower())}
    return [p for p in paths if ".img" not in p.suffixes or image_stem(p.name) not in headers]


def _pairs_by_name(images: Iterable[Path], labels: Iterable[Path]) -> list[tuple[Path, Path]]:
    by_case = {_case_name(path): path for path in labels}
    return [(path, by_case[_case_name(path)]) for path in images if _case_name(path) in by_case]


def _case_name(path: Path) -> tuple[str, ...]:
    """Words of a file name without those that say whether it is an image or a label map."""
    words = tuple(w for w in _words(path) if w not in NEUTRAL_WORDS)
    return words or _words(path)


def _pair_of_case(files: list[Path]) -> tuple[Path, Path] | None:
    labels = [path for path in files if LABEL_WORDS & set(_words(path))]
    images = [path for path in files if path not in labels]
    return (images[0], labels[0]) if len(images) == len(labels) == 1 else None


def _words(path: Path) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z]+|[0-9]+", image_stem(path.name).lower()))
