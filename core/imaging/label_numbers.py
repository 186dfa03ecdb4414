"""Label values of the numbers in a file: rounded where they are nearly whole, or the nearest of the allowed ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.errors import VolumeError
from core.formatting import format_count
from core.imaging.headers import Header

LABEL_TOLERANCE = 1e-3  # largest deviation of a label from a whole number


@np.errstate(over="ignore", invalid="ignore")
def whole_numbers(header: Header, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as int32, and a warning if they were rounded visibly.

    Scaled integers may deviate by half a scaling step: writers that store a floating-point array as integers choose a
    slope that does not hit whole numbers. With a step of 1 or more every number would be near one, and none is rounded.

    Raises
    ------
    VolumeError
        If a value deviates more from a whole number, or exceeds 32 bits.
    """
    if np.can_cast(values.dtype, np.int32):
        return values.astype(np.int32, copy=False), ()
    step = abs(header.slope) if header.scaled and np.dtype(header.dtype).kind in "iu" else 0.0
    tolerance = LABEL_TOLERANCE + (step / 2 if step < 1 else 0)
    rounded = np.round(values)
    deviation = np.abs(values - rounded)
    valid = np.isfinite(values) & (np.abs(values) < 2**31) & (deviation <= tolerance)
    if not valid.all():
        examples = ", ".join(f"{v:.10g}" for v in np.unique(values[~valid])[:3])
        scaling = ""
        if header.scaled:
            scaling = f" (stored as {header.dtype} times scl_slope {header.slope:.6g}"
            scaling += f" plus scl_inter {header.intercept:.6g})" if header.intercept else ")"
        voxels = format_count(int((~valid).sum()), "voxel")
        raise VolumeError(
            f"{header.path}: expected whole numbers as labels, got other values in {voxels}, such as "
            f"{examples}{scaling}; was it resampled with interpolation? Use nearest neighbour"
        )
    largest = float(deviation.max(initial=0))
    warning = (
        f"labels deviate from whole numbers by up to {largest:.2g}, within half a step of scl_slope "
        f"{header.slope:.6g}: they are rounded; write it again as whole numbers if that is wrong"
    )
    return rounded.astype(np.int32), (warning,) if largest > LABEL_TOLERANCE else ()


def nearest_values(path: str | Path, values: np.ndarray, allowed: Sequence[int]) -> tuple[np.ndarray, int]:
    """The nearest allowed value of each voxel, int32, and the number of voxels that it changes."""
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise VolumeError(f"{path}: expected finite label values, got infinite ones; correct the file")
    ordered = np.unique(np.asarray(allowed, np.int64))
    limits = (ordered[:-1] + ordered[1:]) / 2
    result = ordered[np.searchsorted(limits, values, side="left")].astype(np.int32)
    return result, int(np.count_nonzero(np.abs(result - values.astype(np.float64)) > LABEL_TOLERANCE))
