"""Untrained networks as members of ensembles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from core.checkpointing.checkpoint import Checkpoint, build_network, load, save
from core.checkpointing.ensemble_metadata import Member, read_members
from core.checkpointing.metadata import CheckpointMetadata
from tests.support.checkpoint_files import checkpoint_metadata


def write_member(folder: Path, name: str, metadata: CheckpointMetadata, seed: int) -> Member:
    """A checkpoint with weights and other averages, in a folder of its name."""
    torch.manual_seed(seed)
    weights = dict(build_network(metadata).state_dict())
    path = folder / name / "best.safetensors"
    path.parent.mkdir()
    save(path, Checkpoint(metadata, weights, {k: v * (1 + seed) for k, v in weights.items()}))
    (member,) = read_members(path)
    return member


def two_members(folder: Path) -> list[Member]:
    """Networks of two architectures, voxel sizes and splits: one with counters of batch norm, one of which the number
    of values is odd."""
    one = checkpoint_metadata(sub_volume=(8, 16, 8))
    other = checkpoint_metadata(model="vnet", norm="instance", channels=(2, 4), sub_volume=(16, 16, 16))
    other = replace(other, spacing_mm=(2.0, 2.0, 2.0), split={"train": ["b", "c"], "val": ["d"], "test": ["e"]})
    return [write_member(folder, "one", one, 1), write_member(folder, "two", other, 2)]


def copies_as_networks(checkpoint: Path, folder: Path) -> list[Path]:
    """Two files with the weights of a checkpoint, the second as of a later time in its training."""
    source = load(checkpoint)
    progress = {**source.metadata.progress, "elapsed_s": source.metadata.progress["elapsed_s"] + 1}
    later = replace(source, metadata=replace(source.metadata, progress=progress))
    paths = [folder / "one.safetensors", folder / "other.safetensors"]
    for path, state in zip(paths, (source, later), strict=True):
        save(path, state)
    return paths
