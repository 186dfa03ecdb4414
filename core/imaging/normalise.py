"""Intensity normalisation: maps the arbitrary units of MRI to a common scale, per image channel.

x are the intensities of one channel of one subject; "non-zero" are the voxels with x != 0 (the brain, in skull-stripped
data); standard deviations are those of the population:

====================  ============================================================================================
``max_min``           (x - min) / (max - min), over the whole volume: 0 to 1
``full_volume_mean``  (x - mean) / std, both over the whole volume, air included
``brats``             non-zero voxels: 10 + 100 (x - min) / (max - min), min and max over them: 10 to 110; zeros stay 0
``max``               x / max|x|
``mean``              (x - mean) / std, both over the non-zero voxels; applied to every voxel
``z_score``           the same, but zero voxels stay 0
====================  ============================================================================================

The first five have their names from MedicalZooPytorch, the library of the article. Two of them differ from its code,
which has bugs: its ``brats`` rescales standardised intensities with the minimum and maximum of the raw ones (nearly no
contrast is left), and its ``max`` fails on every call. ``brats`` does not standardise first, because the rescaling
cancels it out.

A channel without contrast (denominator 0) becomes 0; ``brats`` then gives 10 on its non-zero voxels.
"""

from __future__ import annotations

from typing import get_args

import numpy as np

from core.config import Normalisation
from core.errors import ConfigError

METHODS: tuple[str, ...] = get_args(Normalisation)


def normalise(image: np.ndarray, method: str) -> np.ndarray:
    """Normalise each channel separately.

    Parameters
    ----------
    image : ndarray, any numeric dtype, shape (channel, i, j, k). Finite intensities; not modified.
    method : str. One of :data:`METHODS`; the module docstring has the formulas.

    Returns
    -------
    ndarray, float32, same shape. Finite.

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
    """Normalise one channel, float32, shape (i, j, k)."""
    if method == "max_min":
        low, high = float(x.min()), float(x.max())
        return _rescale(x, low, high - low)
    if method == "max":
        return _rescale(x, 0.0, float(np.abs(x).max()))
    if method == "full_volume_mean":
        return _rescale(x, *_mean_std(x))
    nonzero = x != 0
    if method == "mean":
        return _rescale(x, *_mean_std(x[nonzero]))
    result = np.zeros_like(x)
    if not nonzero.any():
        return result
    values = x[nonzero]
    if method == "brats":
        low, high = float(values.min()), float(values.max())
        result[nonzero] = 10 + 100 * _rescale(values, low, high - low)
    else:
        result[nonzero] = _rescale(values, *_mean_std(values))
    return result


def _mean_std(values: np.ndarray) -> tuple[float, float]:
    """Mean and population standard deviation, accumulated in float64; (0, 0) for no values."""
    if not values.size:
        return 0.0, 0.0
    mean = float(values.mean(dtype=np.float64))
    deviation = float(values.std(dtype=np.float64))
    # Rounding gives a constant channel a standard deviation of about 1e-8 of its mean; it counts as 0.
    return mean, deviation if deviation > 1e-6 * abs(mean) else 0.0


def _rescale(x: np.ndarray, offset: float, divisor: float) -> np.ndarray:
    """(x - offset) / divisor, computed in float64, as float32; zeros if the divisor is 0."""
    if divisor == 0:
        return np.zeros(x.shape, np.float32)
    return ((x.astype(np.float64) - offset) / divisor).astype(np.float32)
