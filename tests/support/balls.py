"""Synthetic subjects that a tiny network learns in seconds: a bright and a dark ball in noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from core.colours import BACKGROUND_COLOUR, PALETTE
from core.config import TrainConfig
from core.types import Size3, TrainingSubject

SHAPE = (20, 24, 18)
SPACING_MM = (1.0, 1.0, 1.5)
CLASSES = ("background", "bright", "dark")
COLOURS = (BACKGROUND_COLOUR, *PALETTE[:2])

TINY = {
    "sub_volume": (16, 16, 16),
    "samples_train": 16,
    "samples_val": 4,
    "batch_size": 2,
    "foreground": 0.5,
    "flip": 0.5,
    "channels": (8, 16),
    "norm": "instance",
    "activation": "leaky_relu",
    "downsampling": "stride",
    "widening": "after",
    "loss": "dice_ce",
    "batch_dice": True,
    "include_background": False,
    "optimizer": "adamw",
    "learning_rate": 1e-2,
    "lr_schedule": "cosine",
    "ema": 0.9,
    "epochs": 6,
    "whole_every": 3,
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
    "folds": 3,
}


def tiny(**values: object) -> TrainConfig:
    """A configuration that trains in seconds."""
    return TrainConfig().with_values({**TINY, **values})


def balls(seed: int, channels: int = 1, shape: Size3 = SHAPE, noise: float = 8) -> tuple[np.ndarray, np.ndarray]:
    """One subject: a bright ball on the left, a dark one posterior on the right, 60 above and below the rest, in noise
    of this standard deviation.

    Returns
    -------
    image : ndarray, float32, shape (channel, i, j, k). A second channel is the inverse of the first.
    label : ndarray, uint8, shape (i, j, k). Class indices.
    """
    generator = np.random.default_rng(seed)
    image = generator.normal(100, noise, (channels, *shape))
    label = np.zeros(shape, np.uint8)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    for index, at, change in ((1, (0.3, 0.6, 0.5), 60), (2, (0.68, 0.35, 0.5), -60)):
        centre = np.array(at) * shape + generator.uniform(-1, 1, 3)
        inside = ((grid - centre) ** 2).sum(-1) < generator.uniform(3.6, 4.6) ** 2
        label[inside] = index
        for channel in range(channels):
            image[channel][inside] += change if channel == 0 else -change
    return image.astype(np.float32), label


def training_subjects(count: int, channels: int = 1, first: int = 0) -> list[TrainingSubject]:
    """Subjects in memory, z-scored."""
    subjects = []
    for seed in range(first, first + count):
        image, label = balls(seed, channels)
        subjects.append(TrainingSubject(f"ball-{seed}", (image - 100) / 20, label, SPACING_MM))
    return subjects


def write_balls(folder: Path, subjects: int = 6, channels: int = 1, flipped: bool = True, noise: float = 8) -> Path:
    """Write subjects as a Decathlon folder; with ``flipped`` every second one is stored in LAS orientation."""
    training = []
    for seed in range(subjects):
        image, label = balls(seed, channels, noise=noise)
        affine = np.diag([*SPACING_MM, 1.0])
        affine[:3, 3] = (-10, -12, -9)
        if flipped and seed % 2:
            image, label = image[:, ::-1], label[::-1]
            affine = affine @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        stored = image[0] if channels == 1 else np.moveaxis(image, 0, -1)
        for part, array in (("imagesTr", stored), ("labelsTr", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            image_file = nib.Nifti1Image(array, affine)
            image_file.header.set_xyzt_units("mm")
            nib.save(image_file, folder / part / f"ball_{seed}.nii.gz")
        training.append({"image": f"./imagesTr/ball_{seed}.nii.gz", "label": f"./labelsTr/ball_{seed}.nii.gz"})
    content = {
        "name": "Balls",
        "modality": {str(c): f"M{c}" for c in range(channels)},
        "labels": {str(n): name for n, name in enumerate(CLASSES)},
        "training": training,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder


def untrained_run(root: Path, name: str, modalities: tuple[str, ...], **metadata: Any) -> str:
    """A run with an untrained network, whose segmentations are meaningless but reproducible; returns its id. The values
    of its metadata may have ``model``, a U-Net by default, and ``config``, values of its configuration."""
    import torch

    from core.checkpointing.checkpoint import Checkpoint, build_network, save
    from core.checkpointing.metadata import CheckpointMetadata
    from core.labels import LabelSpace
    from core.runs.launch import create_run

    labels = LabelSpace.from_raw(dict(enumerate(CLASSES)))
    values = {"model": metadata.pop("model", "unet3d"), **metadata.pop("config", {})}
    config = tiny(path="somewhere", sub_volume=(16, 16, 16), **values)
    described = CheckpointMetadata(config.to_json(), labels.to_json(), modalities, None, **metadata)
    torch.manual_seed(0)
    folder = create_run(root, config, name)
    save(folder / "last.safetensors", Checkpoint(described, build_network(described).state_dict()))
    return folder.name
