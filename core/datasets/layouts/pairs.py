"""Pairs of image and label map in a folder that no layout recognises, found by the names of folders and files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from core.datasets.layouts.base import natural_key
from core.datasets.layouts.files import image_stem, is_image_name
from core.datasets.layouts.name_words import LABEL_WORDS, says_label, words
from core.imaging.image_files import is_second_half

IMAGE_FOLDERS = ("imagestr", "images", "image", "imgs", "img", "volumes", "scans")
LABEL_FOLDERS = (
    "labelstr", "labels", "label", "masks", "mask", "segmentations", "segmentation", "segs", "seg", "annotations",
)  # fmt: skip
NEUTRAL_WORDS = {"image", "img", "scan", "volume", "0000", *LABEL_WORDS}  # left out when file names are compared
MAX_CASE_FOLDERS = 1000

Name = tuple[str, ...]


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Image and label map of each case, in natural order, relative to the folder; empty where none are recognised.

    Either two parallel folders hold them under corresponding names, such as ``imagesTr`` and ``labelsTr``; or each case
    has a folder with one image and one file that is named as a label map; or all lie in the folder itself.

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
        pairs = [pair for pair in cases if pair is not None] or _pairs_side_by_side(_images_in(folder))
    relative = [(image.relative_to(folder), label.relative_to(folder)) for image, label in pairs]
    return sorted(relative, key=lambda pair: natural_key(pair[0].as_posix()))


def _images_in(folder: Path) -> list[Path]:
    """Images in a folder; of a pair of files only the header."""
    paths = sorted(p for p in folder.iterdir() if is_image_name(p.name))
    names = {p.name for p in paths}
    return [p for p in paths if not is_second_half(p.name, names)]


def _pairs_by_name(images: Sequence[Path], labels: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs of files whose names correspond: as they are, without words such as "image", or without the words that all
    images, or all label maps, have; of these the first that finds most. Names that several files share find none."""
    if _has_channel_files(images, labels):
        return []
    found = []
    for names in (_stems, _case_names, _distinct_names):
        label_of = _by_unique_name(names(labels), labels)
        image_of = _by_unique_name(names(images), images)
        found.append([(image, label_of[name]) for name, image in image_of.items() if name in label_of])
    return max(found, key=len)


def _pairs_side_by_side(files: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs in a folder that holds the images and label maps of all cases, one image for each label map."""
    labels, images = _by_kind(files)
    return _pairs_by_name(images, labels) if len(images) == len(labels) else []


def _has_channel_files(images: Sequence[Path], labels: Sequence[Path]) -> bool:
    """Whether a case has several files, one for each channel, as in nnU-Net: a_0000 and a_0001 for the label map a."""
    cases = Counter(re.sub(r"_[0-9]{4}$", "", stem) for (stem,) in _stems(images))
    return any(cases[stem] > 1 for (stem,) in _stems(labels))


def _by_unique_name(names: Sequence[Name], paths: Sequence[Path]) -> dict[Name, Path]:
    counts = Counter(names)
    return {name: path for name, path in zip(names, paths, strict=True) if name and counts[name] == 1}


def _stems(paths: Sequence[Path]) -> list[Name]:
    return [(image_stem(path.name).lower(),) for path in paths]


def _case_names(paths: Sequence[Path]) -> list[Name]:
    """Words of file names without those that say whether it is an image or a label map."""
    return [tuple(w for w in _words(path) if w not in NEUTRAL_WORDS) for path in paths]


def _distinct_names(paths: Sequence[Path]) -> list[Name]:
    """Parts of file names without those that all of the files have."""
    names = [tuple(re.split(r"[\W_]+", image_stem(path.name).lower())) for path in paths]
    common = set.intersection(*map(set, names)) if names else set()
    return [tuple(part for part in name if part not in common) for name in names]


def _pair_of_case(files: list[Path]) -> tuple[Path, Path] | None:
    labels, images = _by_kind(files)
    return (images[0], labels[0]) if len(images) == len(labels) == 1 else None


def _by_kind(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Files that are named as label maps, and the others."""
    found: tuple[list[Path], list[Path]] = [], []
    for path in files:
        found[not _is_label_name(path)].append(path)
    return found


def _is_label_name(path: Path) -> bool:
    return says_label(words(image_stem(path.name)))


def _words(path: Path) -> list[str]:
    """Words of a file name, numbers behind them apart."""
    return [part for word in words(image_stem(path.name)) for part in re.findall(r"\D+|[0-9]+", word)]
