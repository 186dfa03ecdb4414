"""Reserves part of a time budget for the final validation, and drops the inference modes it does not allow.

Where no whole volumes are validated, the first held-out subject is segmented and scored after training, for Review:
that is part of the budget too if it takes a small share of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import nn

from core.compute.precision import autocast
from core.imaging.content import Box
from core.inference.tile_grid import number_of_tiles
from core.training.run_progress import RunProgress, keeping_limit_s
from core.types import Size3, triple

SAFETY_FACTOR = 1.25  # on the reserved time
WHOLE_FACTOR = 1.5  # one pass over a volume, relative to tiles of as many voxels: it does not fit the caches
KEPT_FACTOR = 1.5  # segmentation and scores of a subject, relative to its segmentation
MAX_KEPT_SHARE = 0.15  # of a time budget, for a subject that is segmented after training
SUB_VOLUMES = "sub-volumes"  # key of the duration of sub-volume validation; the other keys are inference modes
TILES = "tiles"


class ValidationBudget:
    """Estimated and measured durations of the final validation.

    Parameters
    ----------
    progress : RunProgress. Time is reserved here.
    modes : sequence of str. Inference modes for held-out whole volumes, the default first; may be empty.
    overlap : float. Overlap of neighbouring tiles.

    Attributes
    ----------
    modes : list of str. Modes that the time budget allows; all of them without a budget.
    """

    def __init__(self, progress: RunProgress, modes: Sequence[str], overlap: float) -> None:
        self.progress = progress
        self.modes = list(modes)
        self.overlap = overlap
        self._seconds: dict[str, float] = {}
        self._kept_s = 0.0

    def estimate(self, tile_s: float, tile: Size3, sub_volumes: int, boxes: Sequence[Box]) -> None:
        """Reserve time by the duration of one tile. Modes that would take too long are dropped, the last one first.

        Parameters
        ----------
        tile_s : float. Duration of a forward pass over one tile.
        tile : tuple of int. Tile size in voxels (i, j, k).
        sub_volumes : int. Validation sub-volumes per epoch.
        boxes : sequence of Box. Foreground box of each held-out subject.
        """
        sizes = [triple([side.stop - side.start for side in box]) for box in boxes]
        tiles = sum(number_of_tiles(size, tile, self.overlap) for size in sizes)
        voxels = sum(map(math.prod, sizes))
        self._seconds = {
            SUB_VOLUMES: sub_volumes * tile_s,
            TILES: tiles * tile_s,
            "whole": WHOLE_FACTOR * voxels / math.prod(tile) * tile_s,
        }
        while self.modes and not self.progress.can_reserve(self._needed_s()):
            self.modes.pop()
        if sizes and not self.modes:
            kept_s = KEPT_FACTOR * number_of_tiles(sizes[0], tile, self.overlap) * tile_s
            budget_s = self.progress.budget_s
            self._kept_s = kept_s if kept_s <= min(MAX_KEPT_SHARE * budget_s, keeping_limit_s(budget_s)) else 0.0
        self.progress.reserve(self._needed_s())

    def record(self, kind: str, seconds: float) -> None:
        """Update the reserved time with a measured duration, if it is longer than the current one.

        Parameters
        ----------
        kind : str. "sub-volumes", or an inference mode.
        seconds : float. Measured duration.
        """
        if self.progress.budget_s:
            self._seconds[kind] = max(seconds, self._seconds.get(kind, 0.0))
            self.progress.reserve(self._needed_s())

    def expected_s(self, kind: str) -> float:
        """Duration of a validation, measured or estimated; 0 where neither is known."""
        return self._seconds.get(kind, 0.0)

    def _needed_s(self) -> float:
        validation_s = sum(self._seconds.get(kind, 0.0) for kind in (SUB_VOLUMES, *self.modes))
        return SAFETY_FACTOR * validation_s + self._kept_s + 1.0


@torch.no_grad()
def time_tile(model: nn.Module, channels: int, tile: Size3, precision: str) -> float:
    """Seconds of a forward pass over one tile, after a warm-up pass. The model is left in training mode."""
    device = next(model.parameters()).device
    zeros = torch.zeros((1, channels, *tile), device=device)
    model.eval()
    seconds = 0.0
    for _ in range(2):
        started = time.monotonic()
        with autocast(device, precision):
            model(zeros).argmax(dim=1).sum().item()  # synchronises with the device
        seconds = time.monotonic() - started
    model.train()
    return seconds
