"""A data set with regions: concentric balls, whole tumour over tumour core over enhancing part, as nnU-Net's BraTS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.support.volume_files import write_nifti

LABELS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
CLASSES = ("background", "whole only", "core only", "enhancing")
ORDER = [1, 2, 3]
SIDE = 18


def tumour(number: int) -> np.ndarray:
    """Label map, uint8, shape (18, 18, 18): shells of the values 1, 2 and 3 from the outside."""
    centre = np.array([8.0, 8.0, 8.0]) + np.random.default_rng(number).uniform(-1, 1, 3)
    axes = np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij")
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)))
    return sum((distance < radius).astype(np.uint8) for radius in (6.5, 4.5, 2.5))  # type: ignore[return-value]


def write_tumours(folder: Path, subjects: int = 3, order: list[int] | None = ORDER) -> Path:
    """Write the data set; intensities are 1 to 4 times a constant by class, plus noise."""
    for n in range(subjects):
        label = tumour(n)
        noise = np.random.default_rng(100 + n).normal(0, 2, label.shape)
        write_nifti(folder / "imagesTr" / f"case_{n}_0000.nii.gz", (40.0 * (1 + label) + noise).astype(np.float32))
        write_nifti(folder / "labelsTr" / f"case_{n}.nii.gz", label)
    content = {"channel_names": {"0": "T1"}, "labels": LABELS, "numTraining": subjects, "file_ending": ".nii.gz"}
    if order is not None:
        content["regions_class_order"] = order
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder
