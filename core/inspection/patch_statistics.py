"""Where training would draw sub-volumes of a subject, and what lies in them: the sampler at work, laid open.

The places come from the sampler that training uses (:class:`core.sampling.patches.PatchSampler`), with its rules and no others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from core.config import SamplingConfig
from core.sampling.patches import PatchSampler
from core.types import Size3, TrainingSubject


@dataclass(frozen=True)
class Draws:
    """Places drawn by one rule.

    Attributes
    ----------
    sub_volume : size in voxels.
    foreground : share of sub-volumes that are centred on a voxel of a class picked at random.
    threshold : least labelled share of the others.
    starts : first voxel of each, int64 (n, 3); negative where a sub-volume is larger than the subject.
    centres : class at the middle voxel (start + size // 2) of each, uint8 (n,); background outside the subject.
    shares : share of each class in the voxels of each, float64 (n, classes).
    """

    sub_volume: Size3
    foreground: float
    threshold: float
    starts: np.ndarray
    centres: np.ndarray
    shares: np.ndarray

    def to_json(self) -> dict[str, Any]:
        return {
            "sub_volume": list(self.sub_volume),
            "foreground": self.foreground,
            "threshold": self.threshold,
            "starts": self.starts.tolist(),
            "centres": self.centres.tolist(),
            "shares": np.round(self.shares, 5).tolist(),
        }


def draws(
    label: np.ndarray, classes: int, sub_volume: Size3, foreground: float, threshold: float, count: int, seed: int = 0
) -> Draws:
    """Draw ``count`` places of a subject with this label map, uint8 (i, j, k), of ``classes`` classes.

    Raises
    ------
    ConfigError
        If the rule is none that a configuration could have.
    """
    config = SamplingConfig(sub_volume=sub_volume, foreground=foreground, threshold=threshold)
    subject = TrainingSubject("", label[None], label, (1.0, 1.0, 1.0))  # its image matters to no rule
    sampler = PatchSampler([subject], sub_volume, config, classes)
    places = sampler.draw(count, torch.Generator().manual_seed(seed))
    centres = np.zeros(count, np.uint8)
    shares = np.zeros((count, classes))
    for n, place in enumerate(places):
        inside = tuple(slice(max(s, 0), s + d) for s, d in zip(place.start, sub_volume, strict=True))
        box = label[inside]
        shares[n, 1:] = [np.count_nonzero(box == c) / math.prod(sub_volume) for c in range(1, classes)]
        middle = tuple(s + d // 2 for s, d in zip(place.start, sub_volume, strict=True))
        if all(0 <= at < length for at, length in zip(middle, label.shape, strict=True)):
            centres[n] = label[middle]
    shares[:, 0] = 1 - shares[:, 1:].sum(axis=1)  # what lies outside is background, as where sub-volumes are cut
    starts = np.array([place.start for place in places], np.int64).reshape(count, 3)
    return Draws(sub_volume, foreground, threshold, starts, centres, shares)
