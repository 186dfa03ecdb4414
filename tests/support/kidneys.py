"""Subjects with a left and a right ball in a head: classes that differ only by their side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from core.types import Size3, TrainingSubject

NAMES = ("background", "left kidney", "right kidney")
SIDE = 24
LEFT_I, RIGHT_I = 6, 17


def kidneys(seed: int, side: int = SIDE, lift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """One subject: class 1 at low i (left in RAS), class 2 at high i, ``lift`` voxels higher.

    The two are equal balls with a jitter of one voxel.

    Returns
    -------
    image : ndarray, float32, shape (i, j, k).
    label : ndarray, uint8, shape (i, j, k).
    """
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1)
    middle = side / 2
    image = 40.0 * (((grid - middle) ** 2).sum(-1) < (0.48 * side) ** 2) + generator.normal(0, 3, (side,) * 3)
    label = np.zeros((side,) * 3, np.uint8)
    for index, i, height in ((1, LEFT_I, 0.0), (2, RIGHT_I, lift)):
        centre = np.array([i, middle, middle + height]) * side / SIDE + generator.integers(-1, 2, 3)
        ball = ((grid - centre) ** 2).sum(-1) < (side / 7) ** 2
        label[ball] = index
        image[ball] += 60
    return image.astype(np.float32), label


def kidney_subjects(count: int, first: int = 0) -> list[TrainingSubject]:
    """Subjects in memory, with intensities near zero."""
    made = []
    for seed in range(first, first + count):
        image, label = kidneys(seed)
        made.append(TrainingSubject(f"case_{seed}", (image[None] - 20) / 30, label, (1.0, 1.0, 1.0)))
    return made


def write_kidneys(
    folder: Path, names: Sequence[str] = NAMES, subjects: int = 6, oriented: bool = True, mirrored: Sequence[int] = ()
) -> Path:
    """Write a Decathlon folder.

    Parameters
    ----------
    names : sequence of str. Class names, background first.
    oriented : bool. Whether the files state their orientation.
    mirrored : sequence of int. Subjects whose voxels are mirrored without their header.
    """
    training = []
    for seed in range(subjects):
        name = f"case_{seed}.nii.gz"
        for part, array in zip(("imagesTr", "labelsTr"), kidneys(seed), strict=True):
            (folder / part).mkdir(parents=True, exist_ok=True)
            image = nib.Nifti1Image(array[::-1] if seed in mirrored else array, np.eye(4))
            image.set_sform(np.eye(4), code=int(oriented))
            image.set_qform(np.eye(4), code=int(oriented))
            image.header.set_xyzt_units("mm")
            nib.save(image, folder / part / name)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    labels = {str(n): name for n, name in enumerate(names)}
    content = {"name": "Kidneys", "modality": {"0": "M0"}, "labels": labels, "training": training}
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder


def boxes(shape: Size3, *centres: tuple[int, int, int], half: int = 2) -> np.ndarray:
    """A label map with one box per centre, classes 1, 2, ..."""
    label = np.zeros(shape, np.uint8)
    for index, centre in enumerate(centres, start=1):
        label[tuple(slice(c - half, c + half + 1) for c in centre)] = index
    return label
