"""Data for tests of the Learn page: a subject of the demo data, and small untrained networks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from core.checkpointing.checkpoint import Checkpoint, save
from core.checkpointing.metadata import CheckpointMetadata
from core.config import TrainConfig
from core.datasets.synthetic.demo import ensure_subject
from core.labels import LabelSpace
from core.models.build import build_model
from tests.support.balls import CLASSES
from tests.support.once import made_once
from tests.support.run_folders import make_run

BALL_LABELS = LabelSpace.from_raw(dict(enumerate(CLASSES)))
ISEG_LABELS = LabelSpace.from_raw({0: "background", 10: "CSF", 150: "GM", 250: "WM"})


def demo_subject(factory: pytest.TempPathFactory) -> Path:
    """A folder with only subject-1 of the demo data, made once per test session; read-only by convention."""
    return made_once(factory, "one-demo-subject", lambda folder: ensure_subject(folder / "demo")) / "demo"


def link_demo_subject(factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """The folder of :func:`demo_subject` as the demo data of a data root, as hard links."""
    folder = data_root / "demo"
    shutil.copytree(demo_subject(factory), folder, copy_function=os.link)
    return folder


def ball_model(path: Path, model: str = "unet3d") -> Path:
    """A checkpoint of an untrained network for the subjects of :mod:`tests.support.balls`; returns its path."""
    config = TrainConfig().with_values(
        {
            "path": "balls",
            "model": model,
            "channels": (4, 6, 8),
            "norm": "instance",
            "sub_volume": (16, 16, 16),
            "precision": "fp32",
        }
    )
    torch.manual_seed(2)
    weights = build_model(config.model, 1, len(BALL_LABELS)).state_dict()
    save(path, Checkpoint(CheckpointMetadata(config.to_json(), BALL_LABELS.to_json(), ("M0",), None), weights))
    return path


def small_model(checkpoints: Path, name: str = "small", channels: tuple[int, ...] = (4, 8, 16)) -> Path:
    """A run on T1 and T2 with an untrained network; returns its checkpoint."""
    config = TrainConfig().with_values(
        {"path": "demo", "channels": channels, "norm": "instance", "sub_volume": (32, 32, 16), "precision": "fp32"}
    )
    torch.manual_seed(1)
    weights = build_model(config.model, 2, len(ISEG_LABELS)).state_dict()
    metadata = CheckpointMetadata(
        config.to_json(),
        ISEG_LABELS.to_json(),
        ("T1", "T2"),
        None,
        inference={"mode": "tiles", "tile": [32, 32, 16]},
        dataset={"name": "demo", "synthetic": True},
        split={"train": ["subject-2"], "val": ["subject-1"], "test": []},
    )
    path = checkpoints / make_run(checkpoints, name) / "best.safetensors"
    save(path, Checkpoint(metadata, weights))
    return path
