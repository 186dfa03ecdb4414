"""Pictures of a run's validations: a PNG per validation in the run folder, bounded in number and bytes."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.files import atomic_write, file_stamp, remove_temporaries

PICTURES = "pictures"  # folder in the run folder
MAX_PICTURES = 100
MAX_BYTES = 24_000_000  # of all pictures of a run
_NAME = re.compile(r"epoch-(\d+)-step-(\d+)\.png")


@dataclass(frozen=True)
class ValidationPicture:
    """A stored picture.

    Attributes
    ----------
    epoch, step : int. Epoch and optimiser step of the validation.
    path : Path. The PNG file.
    size : int. Bytes.
    version : int. Modification time in nanoseconds since 1970.
    """

    epoch: int
    step: int
    path: Path
    size: int
    version: int


def encode_png(rgb: np.ndarray) -> bytes:
    """A colour image of shape (height, width, 3), uint8, as the content of a PNG file."""
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(png, format="PNG")
    return png.getvalue()


def list_pictures(folder: Path) -> list[ValidationPicture]:
    """The pictures of a run, in the order of their steps; empty for a run without any, or whose folder cannot be read.

    Parameters
    ----------
    folder : Path. The run folder.
    """
    try:
        with os.scandir(folder / PICTURES) as entries:
            named = [(name, entry.path) for entry in entries if (name := _NAME.fullmatch(entry.name))]
    except OSError:
        return []
    found = []
    for name, path in named:
        stamp = file_stamp(Path(path))
        if stamp.size:  # else the trainer has removed it since
            found.append(ValidationPicture(int(name[1]), int(name[2]), Path(path), *stamp))
    return sorted(found, key=lambda picture: picture.step)


def add_picture(folder: Path, epoch: int, step: int, png: bytes) -> None:
    """Store the picture of a validation; it replaces an earlier one of the same step.

    Where there are more than ``MAX_PICTURES`` or more than ``MAX_BYTES``, those between the first and the last whose
    neighbours are closest in steps are removed: the rest stays evenly spread over the run.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    pictures = folder / PICTURES
    pictures.mkdir(exist_ok=True)
    remove_temporaries(pictures)
    name = f"epoch-{epoch:05d}-step-{step:08d}.png"
    for earlier in pictures.glob(f"*-step-{step:08d}.png"):
        if earlier.name != name:
            earlier.unlink(missing_ok=True)
    atomic_write(pictures / name, png)
    stored = list_pictures(folder)
    while len(stored) > 2 and (len(stored) > MAX_PICTURES or sum(p.size for p in stored) > MAX_BYTES):
        spread = [after.step - before.step for before, after in zip(stored, stored[2:], strict=False)]
        stored.pop(1 + spread.index(min(spread))).path.unlink(missing_ok=True)


def drop_pictures_after(folder: Path, step: int) -> None:
    """Remove the pictures after a step, all of them for step 0: a run resumed at that step makes them again."""
    for picture in list_pictures(folder):
        if not step or picture.step > step:
            picture.path.unlink(missing_ok=True)
