"""Finds outliers of an image channel: a few voxels whose intensities are far from those of all other voxels.

Hot pixels, broken scan lines and overwritten values are such voxels. Physical structures are not: they are blurred by
the scanner, so that intensities between theirs and those around them occur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

DISTANCE = 10.0  # times as far from the median as every other voxel
LEAST_DISTANCE = 0.1  # of the median; what counts as the distance of the other voxels at least
FEW_VOXELS = 32  # outliers that any image may have, up to 1 % of its non-zero voxels
FEW_SHARE = 1e-4  # of the non-zero voxels; in large images more than FEW_VOXELS
SCATTERED_SHARE = 1e-3  # of the non-zero voxels, if most of the outliers do not touch each other
EXTREME_DISTANCE = 100.0  # of the 99th percentile of the distances from the median; beyond it contrast is lost
DESCRIBED_OUTLIERS = 3
SAMPLED_VOXELS = 400_000  # from which percentiles are computed at most; an eighth for medians


@dataclass(frozen=True)
class IntensityRange:
    """Range of the intensities of a channel without its outliers.

    Attributes
    ----------
    low, high : float. Least and greatest intensity of all voxels but the outliers.
    outliers : int. Number of voxels outside of that range.
    """

    low: float
    high: float
    outliers: int = 0

    def is_outlier(self, values: np.ndarray) -> np.ndarray:
        """Which intensities are outliers; bool, shape of ``values``."""
        return (values < self.low) | (values > self.high)


def intensity_range(values: np.ndarray) -> IntensityRange:
    """Range of the intensities of a channel, and the number of outliers outside of it.

    Outliers are the k voxels that are farthest from the median of the non-zero voxels, if each is more than ten times
    as far from it as all other voxels, for the largest such k up to 32 or one of ten thousand non-zero voxels,
    whichever is larger; up to one of a thousand, if most of them do not touch each other; at most one of a hundred.

    Parameters
    ----------
    values : ndarray, float32, shape (i, j, k). Finite intensities, at least one voxel.
    """
    low, high = float(values.min()), float(values.max())
    sample = sample_voxels(values, SAMPLED_VOXELS // 8)
    nonzero = sample[sample != 0]
    if not nonzero.size:
        nonzero = values[values != 0]
    if low == high or not nonzero.size:
        return IntensityRange(low, high)
    median = float(np.median(nonzero))
    least = LEAST_DISTANCE * abs(median)
    # Most images end here: at least 99 % of all voxels are no outliers, so their distances bound that of the others.
    usual = float(np.percentile(np.abs(sample.astype(np.float64) - median), 99))
    if max(high - median, median - low) <= DISTANCE * max(usual, least):
        return IntensityRange(low, high)
    count = int(np.count_nonzero(values))
    few = min(max(FEW_VOXELS, int(count * FEW_SHARE)), count // 100)
    limit = min(max(few, int(count * SCATTERED_SHARE)), count // 100)
    if not limit:
        return IntensityRange(low, high)
    distance = np.abs(values.astype(np.float64) - median)
    farthest = -np.sort(-np.partition(distance.ravel(), -limit - 1)[-limit - 1 :])
    for number in np.flatnonzero(farthest[:-1] > DISTANCE * np.maximum(farthest[1:], least))[::-1]:
        is_outlier = distance > farthest[number + 1]
        if number < few or _are_scattered(is_outlier):
            others = values[~is_outlier]
            return IntensityRange(float(others.min()), float(others.max()), values.size - others.size)
    return IntensityRange(low, high)


def describe_outliers(values: np.ndarray, inliers: IntensityRange) -> str:
    """Number, intensities and positions of the outliers of a channel, the farthest first, as text.

    Voxels are counted from 1, as the viewer counts them.
    """
    voxels = np.argwhere(inliers.is_outlier(values))
    found = values[tuple(voxels.T)]
    order = np.argsort(-np.abs(found.astype(np.float64) - (inliers.low + inliers.high) / 2), kind="stable")
    places = [
        f"{found[n]:.7g} at voxel {', '.join(str(at + 1) for at in voxels[n])}" for n in order[:DESCRIBED_OUTLIERS]
    ]
    more = f", and {len(order) - len(places)} more" if len(order) > len(places) else ""
    subject = "1 voxel lies" if len(order) == 1 else f"{len(order)} voxels lie"
    low, high = inliers.low + 0.0, inliers.high + 0.0  # no negative zero
    return f"{subject} far outside of all others ({low:.5g} to {high:.5g}): {'; '.join(places)}{more}"


def describe_extremes(values: np.ndarray) -> str:
    """Number and range of voxels, up to about 1 %, that are too many or too close together for outliers and yet more
    than a hundred times as far from the median as 99 % of the voxels, as text; empty where there are none.

    Normalisation by mean and deviation leaves next to no contrast to the other voxels of such an image.

    Parameters
    ----------
    values : ndarray, float32, shape (i, j, k). Finite intensities without outliers.
    """
    sample = sample_voxels(values)
    nonzero = sample[sample != 0].astype(np.float64)
    if not nonzero.size:
        return ""
    median = float(np.median(nonzero))
    usual = float(np.percentile(np.abs(sample - median), 99))
    reach = EXTREME_DISTANCE * max(usual, LEAST_DISTANCE * abs(median))
    extreme = values[np.abs(values - median) > reach]
    if not extreme.size:
        return ""
    share = extreme.size / values.size
    return (
        f"{extreme.size} voxels ({100 * share:.2g} %) have {float(extreme.min()):.5g} to {float(extreme.max()):.5g}, "
        f"more than {EXTREME_DISTANCE:g} times as far from the median, {median:.5g}, as 99 % of the voxels"
    )


def _are_scattered(mask: np.ndarray) -> bool:
    """Whether most voxels of a mask have no neighbour in it along the axes."""
    touching = np.zeros_like(mask)
    for axis in range(mask.ndim):
        along, own = np.moveaxis(mask, axis, 0), np.moveaxis(touching, axis, 0)
        pairs = along[1:] & along[:-1]
        own[1:] |= pairs
        own[:-1] |= pairs
    return bool(2 * np.count_nonzero(touching) < np.count_nonzero(mask))


def sample_voxels(values: np.ndarray, most: int = SAMPLED_VOXELS) -> np.ndarray:
    """Evenly spaced voxels of a channel (i, j, k), about ``most`` if there are more; shape (n,)."""
    step = max(1, values.size // most)
    while math.gcd(step, values.shape[-1]) > 1:  # a common divisor would leave out slices
        step += 1
    return values.reshape(-1)[::step]
