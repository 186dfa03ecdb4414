"""The arrays that training and prediction work on. Axis order is (channel, i, j, k), i/j/k in RAS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TrainingSubject:
    """One subject, ready for the network: canonical RAS orientation, working spacing, normalised intensities.

    Attributes
    ----------
    id : the subject's name in its data set.
    image : float32 or float16, shape (channels, i, j, k).
    label : uint8 class indices, shape (i, j, k).
    spacing_mm : voxel size along i, j, k.
    """

    id: str
    image: np.ndarray
    label: np.ndarray
    spacing_mm: tuple[float, float, float]


def triple(values: Sequence[int]) -> tuple[int, int, int]:
    """Three values as the tuple of three that they are."""
    i, j, k = values
    return i, j, k
