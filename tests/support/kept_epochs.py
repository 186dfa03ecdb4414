"""Checkpoints of epochs that a run could have kept, made of its best one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.checkpointing.checkpoint import load, save

SHARES = {1: 0.0, 3: 0.5}  # of the weights, by epoch: the first network says nothing


def keep_epochs(run: Path) -> None:
    """Write ``epoch-0001`` and ``epoch-0003`` into a run folder: the weights of the best one, scaled down.

    Parameters
    ----------
    run : Path. Run folder, whose best checkpoint is of epoch 4.
    """
    for epoch, share in SHARES.items():
        checkpoint = load(run / "best.safetensors")
        progress = {**checkpoint.metadata.progress, "epoch": epoch, "step": epoch}
        checkpoint.metadata = replace(checkpoint.metadata, progress=progress)
        for values in (checkpoint.model, checkpoint.average):
            for name, tensor in values.items():
                if tensor.is_floating_point() and "running" not in name:
                    values[name] = tensor * share
        save(run / f"epoch-{epoch:04d}.safetensors", checkpoint)
