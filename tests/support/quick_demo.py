"""The demo data generator with random values instead of simulated anatomy, which takes most of its time."""

from __future__ import annotations

import numpy as np
import pytest

from core.datasets.synthetic import anatomy as anatomy_module
from core.datasets.synthetic import contrast as contrast_module
from core.datasets.synthetic.anatomy import WORK_SHAPE, Anatomy, Atlas


def replace_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace anatomy and contrast in this process, for tests of files and folders; ``make_demo`` needs one worker."""
    brain = np.zeros(WORK_SHAPE, bool)
    brain[60:80, 60:80, 60:80] = True
    voxels = int(brain.sum())

    def draw(atlas: Atlas, rng: np.random.Generator) -> Anatomy:
        return Anatomy(brain, np.zeros((3, voxels)), rng.integers(0, 3, voxels), np.zeros(voxels), 1.0)

    def simulate(anatomy: Anatomy, rng: np.random.Generator) -> dict[str, np.ndarray]:
        images = {kind: np.zeros(WORK_SHAPE, np.int16) for kind in ("T1", "T2")}
        for image in images.values():
            image[brain] = rng.integers(1, 1000, voxels)
        return images

    monkeypatch.setattr(anatomy_module, "load_atlas", lambda: None)
    monkeypatch.setattr(anatomy_module, "draw_anatomy", draw)
    monkeypatch.setattr(contrast_module, "simulate_images", simulate)
