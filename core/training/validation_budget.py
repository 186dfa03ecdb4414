"""What a time budget keeps for its end: how long the last validation will take, and what is left out of it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import nn

from core.compute.precision import autocast
from core.inference.sliding_window import tile_starts
from core.training.schedule import Schedule
from core.types import Size3

SAFETY = 1.25  # on the time that is kept
WHOLE_FACTOR = 1.5  # one pass over a volume beside sub-volumes of as many voxels, in time: it leaves the caches

Box = Sequence[slice]


class ClosingPlan:
    """The last validation of a run.

    Parameters
    ----------
    schedule : of the run; is told how much of its time budget to keep.
    modes : how held-out volumes are to be segmented, the usual way first; empty where they are not.
    overlap : of neighbouring sub-volumes.

    Attributes
    ----------
    modes : those that the time budget affords; all of them without one.
    """

    def __init__(self, schedule: Schedule, modes: Sequence[str], overlap: float) -> None:
        self.schedule = schedule
        self.modes = list(modes)
        self.overlap = overlap
        self._seconds: dict[str, float] = {}

    def estimate(self, tile_s: float, tile: Size3, places: int, heads: Sequence[Box]) -> None:
        """Plan from the time of one sub-volume: what would take too much is left out, one pass beside joined
        sub-volumes first, then whole volumes altogether.

        Parameters
        ----------
        tile_s : seconds that one sub-volume of size ``tile`` takes through the network.
        places : sub-volumes that every epoch is validated on.
        heads : of each held-out subject the box that is segmented.
        """
        tiles = voxels = 0
        for box in heads:
            sides = [side.stop - side.start for side in box]
            tiles += math.prod(len(tile_starts(n, t, self.overlap)) for n, t in zip(sides, tile, strict=True))
            voxels += math.prod(sides)
        self._seconds = {
            "sub-volumes": places * tile_s,
            "tiles": tiles * tile_s,
            "whole": WHOLE_FACTOR * voxels / math.prod(tile) * tile_s,
        }
        while self.modes and not self.schedule.affords(self._needed_s()):
            self.modes.pop()
        self.schedule.keep(self._needed_s())

    def took(self, kind: str, seconds: float) -> None:
        """A validation ("sub-volumes", or a mode) was timed: keep that long for it, if it is more than was thought."""
        if self.schedule.total_s:
            self._seconds[kind] = max(seconds, self._seconds.get(kind, 0.0))
            self.schedule.keep(self._needed_s())

    def _needed_s(self) -> float:
        """Seconds of the last validation, with something to spare."""
        return SAFETY * sum(self._seconds.get(kind, 0.0) for kind in ("sub-volumes", *self.modes)) + 1.0


@torch.no_grad()
def time_of_a_tile(model: nn.Module, channels: int, tile: Size3, precision: str) -> float:
    """Seconds that one sub-volume takes through a network, the first time left out; it is left in training mode."""
    device = next(model.parameters()).device
    zeros = torch.zeros((1, channels, *tile), device=device)
    model.eval()
    seconds = 0.0
    for _ in range(2):
        began = time.monotonic()
        with autocast(device, precision):
            model(zeros).argmax(dim=1).sum().item()  # waits for the device: this is what is timed
        seconds = time.monotonic() - began
    model.train()
    return seconds
