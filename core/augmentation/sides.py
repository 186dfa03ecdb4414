"""Exchanges the labels of left and right classes in mirrored sub-volumes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.augmentation.batched import to_device

LABEL_VALUES = 256  # of uint8


class SideSwap:
    """Exchanges classes in the mirrored sub-volumes of a batch, on the device where the labels are.

    Parameters
    ----------
    pairs : sequence of (int, int). Classes to exchange; all other label values stay.
    """

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        swapped = torch.arange(LABEL_VALUES)
        for a, b in pairs:
            swapped[a], swapped[b] = b, a
        self._active = bool(pairs)
        self._tables = torch.stack([torch.arange(LABEL_VALUES), swapped]).to(torch.uint8).flatten()
        self._on_device: dict[torch.device, Tensor] = {}

    def __call__(self, label: Tensor, flips: Sequence[bool]) -> Tensor:
        """A label map with exchanged classes where a sub-volume is mirrored; the same tensor if there is nothing to do.

        Parameters
        ----------
        label : Tensor, uint8, shape (batch, i, j, k). After mirroring; not written to.
        flips : sequence of bool. Which sub-volumes are mirrored.
        """
        if not self._active or not any(flips):
            return label
        if label.device not in self._on_device:
            self._on_device[label.device] = self._tables.to(label.device)
        offset = to_device(torch.tensor(flips, dtype=torch.int32) * LABEL_VALUES, label.device)
        indices = label.int() + offset[:, None, None, None]
        return self._on_device[label.device].index_select(0, indices.flatten()).view_as(label)
