"""Where training would draw sub-volumes of a subject, and what lies in them: the sampler at work, laid open.

The places come from the sampler that training uses (:class:`core.patches.PlaceSampler`), with its rules and no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from core.config import SamplingConfig
from core.patches import DeviceSubjects, PlaceSampler
from core.types import TrainingSubject

Size = tuple[int, int, int]


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

    sub_volume: Size
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
    label: np.ndarray, classes: int, sub_volume: Size, foreground: float, threshold: float, count: int, seed: int = 0
) -> Draws:
    """Draw ``count`` places of a subject with this label map, uint8 (i, j, k), of ``classes`` classes.

    Raises
    ------
    ConfigError
        If the rule is none that a configuration could have.
    """
    config = SamplingConfig(sub_volume=sub_volume, foreground=foreground, threshold=threshold)
    subject = TrainingSubject("", label[None], label, (1.0, 1.0, 1.0))  # its image matters to no rule
    sampler = PlaceSampler([subject], sub_volume, config, classes)
    places = sampler.draw(count, torch.Generator().manual_seed(seed))
    there = DeviceSubjects([subject], torch.device("cpu"))
    middle = tuple(n // 2 for n in sub_volume)
    centres, shares = [], []
    for place in places:
        box = there.crop([place], sub_volume)[1][0].numpy()
        centres.append(box[middle])
        shares.append([np.count_nonzero(box == c) / box.size for c in range(classes)])
    return Draws(
        sub_volume, foreground, threshold, _rows([p.start for p in places], 3), np.array(centres, np.uint8),
        np.array(shares).reshape(len(places), classes),
    )  # fmt: skip


def _rows(values: Sequence[tuple[int, ...]], width: int) -> np.ndarray:
    return np.array(values, np.int64).reshape(len(values), width)
