"""Logits of a whole volume, of which a network predicts the foreground alone; the rest is background.

Tiles are added up in the volume itself: the logits, often the largest tensor of all, are held once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.imaging.content import Box
from core.types import triple

BACKGROUND_LOGIT = 20.0  # of class 0, outside the foreground box; its negative of regions


class LogitVolume:
    """Logits of an image, allocated once the number of channels is known.

    Parameters
    ----------
    image : Tensor, shape (channel, i, j, k). The image, on the device.
    box : tuple of slice. Foreground box.
    regions : bool. Whether the channels are regions, of which there is none outside the foreground, instead of
        classes, of which the first is the background.
    sets : int. How many times all classes or regions are among the channels.
    """

    def __init__(self, image: Tensor, box: Box, regions: bool, sets: int) -> None:
        self._size, self._device = triple(image.shape[1:]), image.device
        self._box, self._regions, self._sets = box, regions, sets
        self._logits: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """Logits of the whole volume, float32, shape (channel, i, j, k)."""
        assert self._logits is not None, "no foreground yet"
        return self._logits

    def foreground(self, channels: int) -> Tensor:
        """Zeros in the foreground box, float32, shape (channel, i, j, k): a part of the volume, which may be asked for
        again, to start anew."""
        if self._logits is None:
            self._logits = torch.zeros((channels, *self._size), device=self._device)
            if self._regions:
                self._logits.fill_(-BACKGROUND_LOGIT)
            else:
                for part in self._logits.chunk(self._sets):
                    part[0] = BACKGROUND_LOGIT
        return self._logits[(slice(None), *self._box)].zero_()

    def put(self, foreground: Tensor) -> Tensor:
        """Take these as the logits of the foreground box, without a copy where it is the whole volume."""
        if foreground.shape[1:] == self._size:
            self._logits = foreground
            return foreground
        return self.foreground(len(foreground)).copy_(foreground)
