"""Small checkpoints for tests: created, compared, altered."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.checkpointing.checkpoint import Checkpoint, build_network, save
from core.checkpointing.metadata import METADATA_KEY, CheckpointMetadata
from core.config import TrainConfig
from core.labels import LabelSpace
from core.training.optim import build_optimizer, optimizer_tensors

SMALL = {"channels": (2, 4), "norm": "batch", "optimizer": "adamw"}


def checkpoint_metadata(**values: Any) -> CheckpointMetadata:
    config = TrainConfig().with_values({**SMALL, **values})
    labels = LabelSpace.from_raw({0: "background", 10: "CSF", 150: "GM"})
    return CheckpointMetadata(
        config.to_json(),
        labels.to_json(),
        ("T1", "T2"),
        (1.0, 1.0, 1.5),
        {"epoch": 3, "best": None},
        {"mode": "tiles"},
        {"name": "Söhne & Co", "synthetic": True},
        {"train": ["a", "b"], "val": ["c"], "test": []},
    )


def trained(seed: int = 0) -> Checkpoint:
    """A checkpoint of a network that took one step."""
    torch.manual_seed(seed)
    metadata = checkpoint_metadata()
    network = build_network(metadata)
    optimizer = build_optimizer(network, metadata.train_config.optim)
    network(torch.randn(1, 2, 4, 4, 4)).square().sum().backward()
    optimizer.step()
    average = {k: v + 1 for k, v in network.state_dict().items()}
    return Checkpoint(metadata, dict(network.state_dict()), average, optimizer_tensors(optimizer, network))


def write_checkpoint(path: Path, **values: Any) -> str:
    """A checkpoint whose configuration has these values, of whatever network; returns the path as text."""
    save(path, replace(trained(), metadata=checkpoint_metadata(**values)))
    return str(path)


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype
        and one[k].shape == other[k].shape
        and one[k].detach().numpy().tobytes() == other[k].detach().numpy().tobytes()
        for k in one
    )


def forge(
    path: Path,
    tensors: Callable[[dict[str, Tensor]], object] = lambda tensors: None,
    metadata: Callable[[dict[str, Any]], object] = lambda metadata: None,
    text: str | None = None,
) -> Path:
    """Change a checkpoint's tensors or its metadata, or replace the text of the metadata."""
    with safe_open(str(path), "pt") as file:
        header = file.metadata()
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors(stored)
    content = json.loads(header[METADATA_KEY])
    metadata(content)
    save_file(stored, str(path), {METADATA_KEY: json.dumps(content) if text is None else text})
    return path


@contextmanager
def at_most(seconds: float, megabytes: float) -> Iterator[None]:
    """Assert that the block takes no longer, and raises the process's peak memory by no more."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    scale = 1e6 if sys.platform == "darwin" else 1e3
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / scale < megabytes
    assert time.monotonic() - start < seconds
