"""Shared array types, and the subject that training and prediction work on.

Axis order is (channel, i, j, k), i/j/k in RAS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

# Voxels along i, j, k.
Size3: TypeAlias = tuple[int, int, int]
# Index of one voxel along i, j, k; negative or beyond the volume where a sub-volume reaches into the padding.
VoxelIndex: TypeAlias = tuple[int, int, int]
# Voxel size in mm along i, j, k.
SpacingMm: TypeAlias = tuple[float, float, float]
# float64, shape (4, 4): homogeneous transform from voxel index to RAS mm.
Affine: TypeAlias = npt.NDArray[np.float64]
# An orthogonal plane of a volume in RAS.
Plane: TypeAlias = Literal["axial", "coronal", "sagittal"]
# Receives (steps done, steps in all).
ProgressCallback: TypeAlias = Callable[[int, int], None]
# Receives (steps done, also parts of one; steps in all; what is being done).
TextProgressCallback: TypeAlias = Callable[[float, int, str], None]


@dataclass(frozen=True)
class TrainingSubject:
    """One subject, ready for the network: canonical RAS orientation, working spacing, normalised intensities.

    Attributes
    ----------
    id : str. Name in the data set.
    image : ndarray, float32 or float16, shape (channel, i, j, k).
    label : ndarray, uint8, shape (i, j, k). Class indices.
    spacing_mm : tuple of float. Voxel size along i, j, k.
    """

    id: str
    image: np.ndarray
    label: np.ndarray
    spacing_mm: SpacingMm


def triple(values: Sequence[int]) -> Size3:
    """A sequence of three values as a tuple of known length."""
    i, j, k = values
    return i, j, k
