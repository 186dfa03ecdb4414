"""Statistics of the sub-volumes that training draws from a subject: positions, centre classes, class shares.

The positions come from the sampler of training, :class:`core.sampling.patches.PatchSampler`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from core.config import SamplingConfig
from core.labels import IGNORE_INDEX
from core.sampling.patches import PatchSampler
from core.types import TrainingSubject, triple


@dataclass(frozen=True)
class PatchStatistics:
    """Sub-volumes drawn from one subject under one sampling configuration.

    Attributes
    ----------
    sampling : SamplingConfig. Sub-volume size, foreground share and threshold of the draw.
    starts : ndarray, int64, shape (n, 3). First voxel; negative where the sub-volume is larger than the subject.
    centre_classes : ndarray, uint8, shape (n,). Class of the centre voxel, start + size // 2; background outside of the
        subject, :data:`core.labels.IGNORE_INDEX` where ignored.
    class_shares : ndarray, float64, shape (n, classes). Share of each class in the voxels of the sub-volume that are
        not ignored; 0 without any.
    """

    sampling: SamplingConfig
    starts: np.ndarray
    centre_classes: np.ndarray
    class_shares: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """JSON values, as ``places --json`` reports them."""
        return {
            "sub_volume": list(self.sampling.sub_volume),
            "foreground": self.sampling.foreground,
            "threshold": self.sampling.threshold,
            "starts": self.starts.tolist(),
            "centres": self.centre_classes.tolist(),
            "shares": np.round(self.class_shares, 5).tolist(),
        }


def draw_patch_statistics(
    label: np.ndarray, classes: int, sampling: SamplingConfig, count: int, seed: int = 0
) -> PatchStatistics:
    """Draw sub-volumes as training does, and count the classes in them.

    Parameters
    ----------
    label : ndarray, uint8, shape (i, j, k). Class indices of the subject.
    classes : int. Number of classes, background included.
    sampling : SamplingConfig. Sub-volume size, foreground share and threshold.
    count : int. Number of sub-volumes.
    seed : int. Seed of the draw.
    """
    size = triple(sampling.sub_volume)
    subject = TrainingSubject("", label[None], label, (1.0, 1.0, 1.0))  # no sampling rule depends on the image
    sampler = PatchSampler([subject], size, sampling, classes)
    starts = [place.start for place in sampler.draw(count, torch.Generator().manual_seed(seed))]
    centre_classes = np.zeros(count, np.uint8)
    class_shares = np.zeros((count, classes))
    for n, start in enumerate(starts):
        patch = label[tuple(slice(max(s, 0), s + d) for s, d in zip(start, size, strict=True))]
        voxels = np.bincount(patch.ravel(), minlength=IGNORE_INDEX + 1)
        counted = math.prod(size) - voxels[IGNORE_INDEX]
        voxels[0] += math.prod(size) - patch.size  # padding counts as background, as in training
        class_shares[n] = voxels[:classes] / max(counted, 1)
        centre = tuple(s + d // 2 for s, d in zip(start, size, strict=True))
        if all(0 <= at < length for at, length in zip(centre, label.shape, strict=True)):
            centre_classes[n] = label[centre]
    return PatchStatistics(sampling, np.array(starts, np.int64).reshape(count, 3), centre_classes, class_shares)
