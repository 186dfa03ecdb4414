"""Small synthetic data sets in the Decathlon layout: a head of noise around 40, with a brighter blob as label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.types import Size3
from tests.support.volume_files import write_nifti

SHAPE = (24, 24, 24)


def head(seed: int, shape: Size3 = SHAPE, noise: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Image, float32, and label map, uint8, of one case; the blob lies elsewhere in each case."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"), axis=-1)
    inside = (grid**2).sum(-1) < 0.9**2
    blob = ((grid - generator.uniform(-0.4, 0.4, 3)) ** 2).sum(-1) < generator.uniform(0.2, 0.3) ** 2
    image = np.where(inside, 40.0, 0.0) + 30.0 * blob + generator.normal(0, noise, shape) * inside
    return image.astype(np.float32), blob.astype(np.uint8)


def write_heads(folder: Path, cases: int = 5, shapes: Sequence[Size3] = (SHAPE,), **changes: Any) -> Path:
    """Write cases ``case_1`` ..., whose shapes repeat, and a dataset.json; ``changes`` replace entries of it."""
    training = []
    for n in range(1, cases + 1):
        image, label = head(n, shapes[(n - 1) % len(shapes)])
        write_nifti(folder / "imagesTr" / f"case_{n}.nii.gz", image, np.eye(4))
        write_nifti(folder / "labelsTr" / f"case_{n}.nii.gz", label, np.eye(4))
        training.append({"image": f"./imagesTr/case_{n}.nii.gz", "label": f"./labelsTr/case_{n}.nii.gz"})
    content = {
        "name": "Heads",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "blob"},
        "training": training,
        **changes,
    }
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder


def listed_cases(folder: Path) -> list[dict[str, str]]:
    """The entries under ``training``."""
    cases: list[dict[str, str]] = json.loads((folder / "dataset.json").read_text("utf-8"))["training"]
    return cases


def list_cases(folder: Path, training: Sequence[Any], **changes: Any) -> Path:
    """Replace the entries under ``training``, and others."""
    content = json.loads((folder / "dataset.json").read_text("utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**content, "training": list(training), **changes}), "utf-8")
    return folder
