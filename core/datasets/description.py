"""A ``dataset.json`` for a folder that has none: an example by the names of its files, and the whole file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from core.datasets.layouts.decathlon import FILE
from core.datasets.layouts.pairs import find_pairs
from core.errors import DatasetError
from core.files import atomic_write
from core.imaging.headers import read_header
from core.imaging.volume import read_label
from core.types import ProgressCallback

MAX_VALUES = 254  # foreground label values


def advise_description(folder: Path) -> str:
    """What to write into a ``dataset.json``, by the names of the files; empty where no label maps are recognised.

    Raises
    ------
    OSError
        If a folder cannot be listed.
    """
    pairs = find_pairs(folder)
    if not pairs:
        return ""
    example = _content(folder, pairs[:1], ["image"], {1: "NAME OF LABEL VALUE 1"})
    image, label = (path.as_posix() for path in pairs[0])
    return (
        f"there are {len(pairs)} images with label maps, as {image} and {label}: write {folder / FILE} with an entry "
        f"under 'training' for each, {json.dumps(example)}; or have it written with: python -m core check {folder} "
        "--write-description"
    )


def write_description(folder: Path, progress: ProgressCallback | None = None) -> Path:
    """Write a ``dataset.json`` that lists the images and label maps of a folder; classes are named by label value, a
    negative one, such as -1, as the ignore label.

    Raises
    ------
    UserError
        If there is one already, no images with label maps are recognised, a file cannot be read, or it cannot be
        written.
    """
    file = folder / FILE
    try:
        if file.exists():
            raise DatasetError(f"{file}: expected no such file, found one; rename it to have another written")
        pairs = find_pairs(folder)
        if not pairs:
            raise DatasetError(
                f"{folder}: expected images and label maps of the same names in two folders, such as imagesTr and "
                "labelsTr, or in a folder for each case, found none; rename them"
            )
        channels = read_header(folder / pairs[0][0]).channels
        modalities = ["image"] if channels == 1 else [f"image {n}" for n in range(1, channels + 1)]
        values = _label_values(folder, pairs, progress)
        negative = [value for value in values if value < 0]
        if len(negative) > 1:
            raise DatasetError(
                f"{folder}: expected at most one negative label value, of voxels left out of training, got {negative}; "
                "change the others in the label maps"
            )
        classes = {value: "ignore" if value < 0 else f"label {value}" for value in values if value}
        atomic_write(file, json.dumps(_content(folder, pairs, modalities, classes), indent=1).encode())
    except OSError as error:
        raise DatasetError(f"{file}: cannot be written: {error.strerror or error}; check permissions") from error
    return file


def _label_values(folder: Path, pairs: list[tuple[Path, Path]], progress: ProgressCallback | None) -> list[int]:
    values: set[int] = set()
    for number, (_, label) in enumerate(pairs):
        if progress is not None:
            progress(number, len(pairs))
        values.update(np.unique(read_label(folder / label).data).tolist())
        if len(values) > MAX_VALUES:
            raise DatasetError(
                f"{folder / label}: expected at most {MAX_VALUES} label values in all label maps, got more; is it an "
                "image?"
            )
    return sorted(values)


def _content(
    folder: Path, pairs: list[tuple[Path, Path]], modalities: list[str], classes: dict[int, str]
) -> dict[str, Any]:
    return {
        "name": folder.absolute().name,
        "modality": {str(number): name for number, name in enumerate(modalities)},
        "labels": {"0": "background", **{str(value): name for value, name in classes.items()}},
        "training": [{"image": f"./{image.as_posix()}", "label": f"./{label.as_posix()}"} for image, label in pairs],
    }
