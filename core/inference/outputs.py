"""What the channels of a network's logits are: classes that exclude each other, or regions that may overlap.

Classes: probabilities are the softmax, the label map has the class of the largest logit. Regions: probabilities are
sigmoids, and the label map is painted by nnU-Net's rule (:mod:`core.regions`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.checkpointing.metadata import CheckpointMetadata
from core.regions import INSIDE, RegionSpace


@dataclass(frozen=True)
class NetworkOutputs:
    """The meaning of the channels.

    Attributes
    ----------
    class_names : tuple of str. Classes in index order, background first.
    regions : RegionSpace or None. The regions that are the channels; ``None`` where the classes are.
    """

    class_names: tuple[str, ...]
    regions: RegionSpace | None = None

    @classmethod
    def of(cls, metadata: CheckpointMetadata) -> NetworkOutputs:
        """Those of the network of a checkpoint."""
        return cls(metadata.label_space.names, metadata.trained_regions)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels."""
        return self.class_names if self.regions is None else self.regions.names

    @property
    def kind(self) -> str:
        """ "classes" or "regions"."""
        return "classes" if self.regions is None else "regions"

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of logits (channel, i, j, k), of the same shape."""
        return torch.softmax(logits, dim=0) if self.regions is None else torch.sigmoid(logits)

    def label_map(self, logits: Tensor, dim: int = 0) -> Tensor:
        """Class indices of logits whose channels lie along an axis, int64, without that axis. Does not synchronise."""
        if self.regions is None:
            return logits.argmax(dim=dim)
        channels = torch.sigmoid(logits).movedim(dim, 0)
        labels = torch.zeros(channels.shape[1:], dtype=torch.int64, device=logits.device)
        for probability, index in zip(channels, self.regions.painted, strict=True):
            labels.masked_fill_(probability > INSIDE, index)
        return labels

    def label_map_of(self, probabilities: np.ndarray) -> np.ndarray:
        """Class indices of probabilities (channel, i, j, k), uint8, shape (i, j, k)."""
        if self.regions is None:
            return probabilities.argmax(axis=0).astype(np.uint8)
        return self.regions.to_labels(probabilities)

    def swapped_channels(self, swapped_classes: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """Pairs of channels that left-right mirroring exchanges; errors are those of
        :meth:`core.regions.RegionSpace.swapped_channels`."""
        return swapped_classes if self.regions is None else self.regions.swapped_channels(swapped_classes)
