"""Voxel sizes of the training subjects of a network, and their comparison with the voxel size of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from core.imaging.geometry import format_mm
from core.types import SpacingMm

TOLERANCE = 0.15  # relative; a voxel size further outside the range of training is warned of
ROUNDING = 1e-6  # of sizes that are stored in single precision


@dataclass(frozen=True)
class TrainingSpacing:
    """Voxel sizes of the training subjects along canonical i, j, k, in mm.

    Attributes
    ----------
    median_mm : tuple of float. Median along each axis; for an even number of subjects the lower one of the middle two.
    min_mm, max_mm : tuple of float. Smallest and largest along each axis.
    """

    median_mm: SpacingMm
    min_mm: SpacingMm
    max_mm: SpacingMm

    @classmethod
    def of(cls, spacings_mm: Sequence[SpacingMm]) -> TrainingSpacing:
        """Median and range of the voxel sizes of at least one subject."""
        axes = list(zip(*spacings_mm, strict=True))
        return cls(*(_triple([pick(axis) for axis in axes]) for pick in (median_low, min, max)))

    @classmethod
    def from_json(cls, data: Any) -> TrainingSpacing:
        """The inverse of :meth:`to_json`.

        Raises
        ------
        ValueError, KeyError, TypeError
            If the data is not of this form.
        """
        sizes = [_triple([float(v) for v in data[name]]) for name in ("median", "min", "max")]
        if not all(math.isfinite(v) and v > 0 for size in sizes for v in size):
            raise ValueError(f"expected voxel sizes above 0 mm, got {sizes}")
        return cls(*sizes)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, in mm."""
        return {"median": list(self.median_mm), "min": list(self.min_mm), "max": list(self.max_mm)}

    @property
    def text(self) -> str:
        """For display: ``1 x 1 x 2 mm``, with the range where subjects differ."""
        if all(math.isclose(low, high, rel_tol=1e-3) for low, high in zip(self.min_mm, self.max_mm, strict=True)):
            return f"{format_mm(self.median_mm)} mm"
        return f"{format_mm(self.median_mm)} mm ({format_mm(self.min_mm)} to {format_mm(self.max_mm)} mm)"

    def difference(self, spacing_mm: SpacingMm) -> str:
        """How a voxel size differs from those of training; empty within ``TOLERANCE`` of their range along all axes."""
        limits = [
            (low * (1 - TOLERANCE) - ROUNDING * low, high * (1 + TOLERANCE) + ROUNDING * high)
            for low, high in zip(self.min_mm, self.max_mm, strict=True)
        ]
        if all(low <= size <= high for size, (low, high) in zip(spacing_mm, limits, strict=True)):
            return ""
        permuted = sorted(spacing_mm), sorted(self.median_mm)
        same_sizes = all(math.isclose(a, b, rel_tol=TOLERANCE) for a, b in zip(*permuted, strict=True))
        order = "; the sizes are the same in another order of axes: is the orientation of the image right?"
        return (
            f"the voxels are {format_mm(spacing_mm)} mm, those of training {self.text}, and this model does not "
            f"resample{order if same_sizes else ''}"
        )


def _triple(values: Sequence[float]) -> SpacingMm:
    i, j, k = values
    return float(i), float(j), float(k)
