"""Balls with an ignore label: the posterior slab of every label map is not annotated."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.support.balls import CLASSES, write_balls

SLAB = 9  # voxels along j that are ignored; they cut through the dark ball


def write_ignored_balls(folder: Path, value: int = 255, name: str = "ignore", subjects: int = 6) -> Path:
    """The folder of :func:`tests.support.balls.write_balls` with an ignore label, listed if it has a name."""
    write_balls(folder, subjects=subjects)
    for path in sorted((folder / "labelsTr").iterdir()):
        image = nib.load(path)
        label = np.asarray(image.dataobj).astype(np.int16)
        label[:, :SLAB] = value
        nib.save(nib.Nifti1Image(label, image.affine), path)
    if name:
        relabel(folder, {**{str(n): c for n, c in enumerate(CLASSES)}, str(value): name})
    return folder


def relabel(folder: Path, labels: object) -> None:
    """Replace ``labels`` in the ``dataset.json`` of a folder."""
    content = json.loads((folder / "dataset.json").read_text("utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**content, "labels": labels}), "utf-8")
