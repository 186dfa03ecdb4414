"""Intensity normalisation: brings the arbitrary units of MRI to a common scale, per image channel.

With x the intensities of one channel of one subject, "non-zero" meaning the voxels with x != 0 (the head, in
skull-stripped data), and standard deviations those of the population:

====================  ============================================================================================
``max_min``           (x - min) / (max - min), over the whole volume: 0 to 1
``full_volume_mean``  (x - mean) / std, both over the whole volume, air included
``brats``             non-zero voxels: 10 + 100 (x - min) / (max - min), min and max over them: 10 to 110; zeros stay 0
``max``               x / max|x|
``mean``              (x - mean) / std, both over the non-zero voxels; applied to every voxel
``z_score``           the same, but zero voxels stay 0
====================  ============================================================================================

The first five carry the names they have in MedicalZooPytorch, the library of the article. Two of them differ from its
code where that cannot have been meant: its ``brats`` rescales standardised intensities with the minimum and maximum of
the raw ones (which leaves next to no contrast), its ``max`` fails on every call. Standardising first changes nothing in
``brats``: it cancels out of the rescaling.

A channel without contrast (a zero denominator) becomes all zeros; ``brats`` then gives 10 on its non-zero voxels.
"""

from __future__ import annotations

from typing import get_args

import numpy as np

from core.config import Normalisation
from core.errors import ConfigError

METHODS: tuple[str, ...] = get_args(Normalisation)


def normalise(image: np.ndarray, method: str) -> np.ndarray:
    """Normalise each channel by itself.

    Parameters
    ----------
    image : shape (channels, i, j, k), finite, any numeric dtype; not changed.
    method : one of :data:`METHODS`; the formulas are at the top of this module.

    Returns
    -------
    float32, same shape, always finite.

    Raises
    ------
    ConfigError
        If the method is unknown.
    """
    if method not in METHODS:
        raise ConfigError(f"normalisation: expected one of {', '.join(METHODS)}; got {method!r}")
    normalised = np.empty(image.shape, np.float32)
    for channel, x in enumerate(image):
        normalised[channel] = _channel(np.asarray(x, np.float32), method) if x.size else 0
    return normalised


def _channel(x: np.ndarray, method: str) -> np.ndarray:
    """One channel, float32, shape (i, j, k)."""
    if method == "max_min":
        low, high = float(x.min()), float(x.max())
        return _scaled(x, low, high - low)
    if method == "max":
        return _scaled(x, 0.0, float(np.abs(x).max()))
    if method == "full_volume_mean":
        return _scaled(x, *_mean_std(x))
    head = x != 0
    if method == "mean":
        return _scaled(x, *_mean_std(x[head]))
    result = np.zeros_like(x)
    if not head.any():
        return result
    values = x[head]
    if method == "brats":
        low, high = float(values.min()), float(values.max())
        result[head] = 10 + 100 * _scaled(values, low, high - low)
    else:
        result[head] = _scaled(values, *_mean_std(values))
    return result


def _mean_std(values: np.ndarray) -> tuple[float, float]:
    """Mean and population standard deviation, accumulated in float64; (0, 0) where there are no values."""
    if not values.size:
        return 0.0, 0.0
    mean = float(values.mean(dtype=np.float64))
    deviation = float(values.std(dtype=np.float64))
    # Rounding leaves a constant channel with a deviation of about 1e-8 of its mean: that is no contrast.
    return mean, deviation if deviation > 1e-6 * abs(mean) else 0.0


def _scaled(x: np.ndarray, offset: float, divisor: float) -> np.ndarray:
    """(x - offset) / divisor in float64, or zeros where the divisor is 0; float32."""
    if divisor == 0:
        return np.zeros(x.shape, np.float32)
    return ((x.astype(np.float64) - offset) / divisor).astype(np.float32)
