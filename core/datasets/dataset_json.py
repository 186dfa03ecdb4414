"""A ``dataset.json`` for a folder that has none: an example by the names of its files, and the whole file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.datasets.label_values import default_classes, label_values
from core.datasets.layouts.decathlon import FILE
from core.datasets.layouts.pairs import find_pairs
from core.errors import DatasetError
from core.files import atomic_write
from core.imaging.headers import read_header
from core.types import ProgressCallback


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
    example = _content(folder, pairs[:1], ["image"], {"background": 0, "NAME OF LABEL VALUE 1": 1})
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
        classes = default_classes(folder, label_values([folder / label for _, label in pairs], progress))
        atomic_write(file, json.dumps(_content(folder, pairs, modalities, classes), indent=1).encode())
    except OSError as error:
        raise DatasetError(f"{file}: cannot be written: {error.strerror or error}; check permissions") from error
    return file


def _content(
    folder: Path, pairs: list[tuple[Path, Path]], modalities: list[str], classes: dict[str, int]
) -> dict[str, Any]:
    return {
        "name": folder.absolute().name,
        "modality": {str(number): name for number, name in enumerate(modalities)},
        "labels": {str(value): name for name, value in classes.items()},
        "training": [{"image": f"./{image.as_posix()}", "label": f"./{label.as_posix()}"} for image, label in pairs],
    }
