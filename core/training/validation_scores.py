"""Measures a network on held-out subjects while it trains: on fixed sub-volumes, and on whole volumes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from core.compute.device import cudnn_benchmark
from core.compute.distributed import SINGLE_PROCESS, DistributedContext
from core.compute.precision import autocast
from core.evaluation.confusion_counts import class_counts
from core.evaluation.metrics import dice_from_counts, nan_mean
from core.inference.sliding_window import predict_logits
from core.sampling.patches import Place, Subjects
from core.types import Size3

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class SubVolumeScore:
    """Loss and Dice over all validation sub-volumes together (counts pooled), one Dice per class, background first."""

    loss: float
    dice: np.ndarray
    picture: np.ndarray | None

    def values(self, classes: Sequence[str]) -> dict[str, float]:
        """By metric name; see :mod:`core.events`."""
        named = {f"val/dice/{name}": float(d) for name, d in zip(classes[1:], self.dice[1:], strict=True)}
        return {
            "val/loss": self.loss,
            **named,
            "val/dice_mean": nan_mean(self.dice[1:]),
            "val/sub_volume_dice_with_background": nan_mean(self.dice),
        }


@dataclass(frozen=True)
class WholeVolumeScore:
    """Dice of each held-out subject, shape (subjects, classes); nan where a class is in neither truth nor
    prediction."""

    dice: np.ndarray
    mode: str
    seconds: float

    @property
    def mean_dice(self) -> float:
        """Mean over subjects, then over foreground classes."""
        return nan_mean([nan_mean(column) for column in self.dice.T[1:]])

    def values(self, classes: Sequence[str]) -> dict[str, float]:
        """By metric name; see :mod:`core.events`."""
        named = {f"whole/dice/{name}": nan_mean(self.dice[:, c]) for c, name in enumerate(classes) if c}
        return {**named, "whole/dice_mean": self.mean_dice}


@torch.no_grad()
def score_sub_volumes(
    model: nn.Module,
    subjects: Subjects,
    places: Sequence[Place],
    size: Size3,
    *,
    loss: LossFunction,
    classes: int,
    colours: Sequence[str],
    batch_size: int,
    precision: str,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> SubVolumeScore:
    """Loss and Dice on the given sub-volumes, shared among a team, and a picture of the first (the leader's alone); the
    model is left in training mode."""
    model.eval()
    total = torch.zeros((), device=subjects.device)
    counts = torch.zeros((3, classes), dtype=torch.int64, device=subjects.device)
    picture = None
    batches = [places[first : first + batch_size] for first in range(0, len(places), batch_size)]
    for batch in distributed.shard(batches):
        image, label = subjects.crop(batch, size)
        with cudnn_benchmark(subjects.device), autocast(subjects.device, precision):
            logits = model(image)
        total += loss(logits, label) * len(batch)
        found = logits.argmax(dim=1)
        counts += torch.stack(class_counts(found, label, classes))
        if picture is None and distributed.is_main:
            picture = draw_slice(image[0, 0], label[0], found[0], colours)
    model.train()
    distributed.all_reduce(total)
    distributed.all_reduce(counts)
    return SubVolumeScore(
        float(total) / len(places) if places else math.nan, dice_from_counts(*counts.cpu().numpy()), picture
    )


@torch.no_grad()
def score_whole_volumes(
    model: nn.Module,
    subjects: Subjects,
    *,
    mode: str,
    tile: Size3,
    overlap: float,
    precision: str,
    mirror: bool,
    classes: int,
    progress: Callable[[int, int], None] | None = None,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> WholeVolumeScore:
    """Segment every subject as a whole volume and return its Dice per class; a team shares the subjects."""
    began = time.monotonic()
    rows = []
    for index in distributed.shard(range(len(subjects))):
        image, label = subjects.image(index), subjects.label(index)
        logits = predict_logits(model, image, mode=mode, tile=tile, overlap=overlap, precision=precision, mirror=mirror)
        counts = torch.stack(class_counts(logits.argmax(dim=0)[None], label[None], classes))
        rows.append(dice_from_counts(*counts.cpu().numpy()))
        if progress is not None:
            progress(index + 1, len(subjects))
    return WholeVolumeScore(np.stack(distributed.all_gather(rows)), mode, time.monotonic() - began)


def draw_slice(image: Tensor, truth: Tensor, prediction: Tensor, colours: Sequence[str]) -> np.ndarray:
    """Image, truth and prediction side by side in the axial slice with most truth: uint8 (height, width, 3).

    Rows run from anterior (top) to posterior; the subject's right is on the left of the picture.
    """
    k = int((truth > 0).sum(dim=(0, 1)).argmax())
    grey = image[:, :, k].float().cpu().numpy()
    low, high = np.percentile(grey, [1, 99])
    base = (np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255)[..., None].repeat(3, axis=-1)
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours], np.float32)
    panels = [base]
    for labels in (truth, prediction):
        index = labels[:, :, k].cpu().numpy().astype(np.int64)
        shown = (index > 0)[..., None]
        panels.append(np.where(shown, 0.45 * base + 0.55 * palette[index], base))
    upright = [np.flip(np.swapaxes(p, 0, 1), axis=(0, 1)) for p in panels]
    return np.ascontiguousarray(np.concatenate(upright, axis=1)).astype(np.uint8)
