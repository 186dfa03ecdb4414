"""Balls in a folder of any names, with the description (``--layout FILE.toml``) that it is read by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.support.balls import SPACING_MM, balls

AFFINE = np.diag([*SPACING_MM, 1.0])
MODALITIES = ("T1", "T2")
CLASSES = {"background": 0, "bright": 1, "dark": 2}


def write_described_balls(
    folder: Path,
    subjects: int = 6,
    *,
    lacking: Sequence[tuple[int, str]] = (),
    raw: Sequence[int] = (0, 1, 2),
    classes: Mapping[str, Any] = CLASSES,
    **description: Any,
) -> tuple[Path, Path]:
    """Write the images ``scans/p0/p0_T1.nii.gz`` and ``_T2``, and the label map ``_mask``, of each subject.

    Parameters
    ----------
    folder : Path. The data are written to ``data`` in it, the description to ``description.toml``.
    lacking : sequence of (int, str). Subjects and modalities that have no file.
    raw : sequence of int. Value of background, bright and dark ball in the files.
    classes : mapping. Value, or list of values, by name of the class in the description.
    description : Any. Further keys of the description.

    Returns
    -------
    data, description : Path.
    """
    for number in range(subjects):
        image, label = balls(number, channels=2)
        case = folder / "data" / "scans" / f"p{number}"
        case.mkdir(parents=True)
        for modality, channel in zip(MODALITIES, image, strict=True):
            if (number, modality) not in lacking:
                _write(case / f"p{number}_{modality}.nii.gz", channel)
        _write(case / f"p{number}_mask.nii.gz", np.asarray(raw, np.int16)[label])
    content = {
        "images": "scans/{case}/{case}_{modality=T1|T2}.nii.gz",
        "labels": "scans/{case}/{case}_mask.nii.gz",
        "classes": dict(classes),
        **description,
    }
    file = folder / "description.toml"
    file.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in content.items()), "utf-8")
    return folder / "data", file


def _write(path: Path, array: np.ndarray) -> None:
    image = nib.Nifti1Image(array, AFFINE)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(v)}" for name, v in value.items()) + "}"
    return json.dumps(value)
