"""Options, generators and subjects for tests of augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from core.config import AugmentConfig
from core.sampling.patches import ResidentSubjects
from core.types import Size3, TrainingSubject

OFF: dict[str, Any] = dict(flip=0.0, affine=0.0, elastic=0.0, intensity=0.0, noise=0.0)
SPATIAL: dict[str, dict[str, Any]] = {
    "rotation": dict(affine=1.0, rotation_deg=180.0, scaling=0.0),
    "scaling": dict(affine=1.0, rotation_deg=0.0, scaling=0.25),
    "elastic": dict(elastic=1.0, elastic_voxels=3.0),
    "everything": dict(flip=0.5, affine=0.7, rotation_deg=40.0, scaling=0.2, elastic=0.6, elastic_voxels=2.0),
}


def config(**values: Any) -> AugmentConfig:
    return AugmentConfig(**{**OFF, **values})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_cpu(image: np.ndarray, label: np.ndarray) -> ResidentSubjects:
    subject = TrainingSubject("s", image.astype(np.float32), label.astype(np.uint8), (1.0, 1.0, 1.0))
    return ResidentSubjects([subject], torch.device("cpu"))


def textured(shape: Size3, channels: int = 2) -> ResidentSubjects:
    rng = np.random.default_rng(0)
    return on_cpu(rng.normal(size=(channels, *shape)), rng.choice([0, 3, 200], shape))
