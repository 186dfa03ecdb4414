"""Intensity normalisation: maps the units of a scanner to a common scale, per image channel.

x are the intensities of one channel of one subject; "foreground" are the voxels that are not air; standard deviations
are those of the population:

====================  ============================================================================================
``max_min``           (x - min) / (max - min), over the whole volume: 0 to 1
``full_volume_mean``  (x - mean) / std, both over the whole volume, air included
``brats``             foreground: 10 + 100 (x - min) / (max - min), min and max over it: 10 to 110; air becomes 0
``max``               x / max|x|
``mean``              (x - mean) / std, both over the foreground; applied to every voxel
``z_score``           the same, but air becomes 0
``ct``                (clip(x, low, high) - mean) / std, all four measured in the labelled voxels of the training
                      subjects: low and high are percentiles 0.5 and 99.5, mean and std are of clipped intensities
====================  ============================================================================================

All but the last need no other image. The first five have their names from MedicalZooPytorch, the library of the
article. Two of them differ from its code, which has bugs: its ``brats`` rescales standardised intensities with the
minimum and maximum of the raw ones (nearly no contrast is left), and its ``max`` fails on every call. ``brats`` does
not standardise first, because the rescaling cancels it out. ``ct`` is that of nnU-Net, whose mean and std are of
unclipped intensities, so that metal changes them.

Air is 0 where no intensity is negative. Otherwise 0 is an intensity like others, such as that of water in CT; then only
zeros that surround the content are air: those connected to the border of the volume, where most of the border is 0.

Outliers (:mod:`core.imaging.outliers`) are set to the nearest intensity of the other voxels first; in images without
outliers nothing changes. Version 1, of checkpoints that state no version, kept outliers, and all zeros were air.

A channel without contrast (denominator 0) becomes 0; ``brats`` then gives 10 on its foreground.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from core.choices import Normalisation
from core.errors import ConfigError, check_version
from core.imaging.outliers import describe_outliers, intensity_range

METHODS: tuple[str, ...] = tuple(m for m in get_args(Normalisation) if m not in ("auto", "ct"))  # of single images
VERSION = 2
AIR_BORDER_SHARE = 0.5  # of the border of a volume that is 0, above which zeros around the content are air


@dataclass(frozen=True)
class ForegroundStatistics:
    """Statistics of the labelled voxels of training subjects, for one channel.

    Attributes
    ----------
    low, high : float. Percentiles 0.5 and 99.5.
    mean, std : float. Mean and population standard deviation of the intensities clipped to them.
    """

    low: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class Normaliser:
    """Normalisation of images with a certain number of channels.

    Parameters
    ----------
    methods : tuple of str. Method of each channel: one of :data:`METHODS`, or "ct".
    statistics : tuple of ForegroundStatistics or None. Of each channel with the method "ct".
    version : int. 1 or 2; see the module docstring.

    Raises
    ------
    ConfigError
        If a method is unknown, or statistics that one needs are missing.
    """

    methods: tuple[str, ...]
    statistics: tuple[ForegroundStatistics | None, ...] = ()
    version: int = VERSION

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in (*METHODS, "ct"):
                raise ConfigError(f"normalisation: expected one of {', '.join(METHODS)} or ct; got {method!r}")
        if not self.statistics:
            object.__setattr__(self, "statistics", (None,) * len(self.methods))
        if len(self.statistics) != len(self.methods) or any(
            method == "ct" and found is None for method, found in zip(self.methods, self.statistics, strict=True)
        ):
            raise ConfigError(
                "normalisation ct: expected the percentiles, mean and std of the training subjects for each channel, "
                "found none; take the checkpoint as training wrote it, or train again"
            )

    @classmethod
    def of_images(cls, method: str, channels: int, version: int = VERSION) -> Normaliser:
        """One method for all channels, measured in each image alone."""
        return cls((method,) * channels, (None,) * channels, version)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Normalise each channel separately.

        Parameters
        ----------
        image : ndarray, any numeric dtype, shape (channel, i, j, k). Finite intensities; not modified.

        Returns
        -------
        ndarray, float32, same shape. Finite.
        """
        if len(image) != len(self.methods):
            raise ValueError(f"expected {len(self.methods)} channels, got {len(image)}")
        normalised = np.empty(image.shape, np.float32)
        for channel, (x, method, statistics) in enumerate(zip(image, self.methods, self.statistics, strict=True)):
            x = np.asarray(x, np.float32)
            if not x.size:
                continue
            if statistics is not None:
                # Of a modality that there is no image of, every voxel is 0, and stays so.
                inside = x.clip(statistics.low, statistics.high)
                normalised[channel] = _rescale(inside, statistics.mean, statistics.std) if x.any() else 0
            elif self.version == 1:
                normalised[channel] = _channel(x, x != 0, method)
            else:
                x = _without_outliers(x)
                normalised[channel] = _channel(x, foreground(x), method)
        return normalised

    def warnings(self, image: np.ndarray, modalities: Sequence[str]) -> list[str]:
        """Why the intensities of an image, float32, shape (channel, i, j, k), may be normalised wrongly."""
        found = []
        for x, modality, statistics in zip(image, modalities, self.statistics, strict=True):
            inliers = intensity_range(x)
            if statistics is not None and statistics.low < 0 <= inliers.low:
                found.append(
                    f"{modality}: expected Hounsfield units as in training, where {statistics.low:.5g} to "
                    f"{statistics.high:.5g} are common, got intensities from {inliers.low:.5g} to {inliers.high:.5g}"
                )
            if self.version == 1 and inliers.outliers:
                found.append(
                    f"{modality}: {describe_outliers(x, inliers)}; the network is of version 0.1, whose normalisation "
                    "loses contrast by them: correct the image, or train again"
                )
        return found

    def to_json(self) -> dict[str, Any]:
        """JSON values for the metadata of a checkpoint."""
        return {
            "version": self.version,
            "methods": list(self.methods),
            "statistics": [None if s is None else asdict(s) for s in self.statistics],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Normaliser:
        """The normaliser of :meth:`to_json`.

        Raises
        ------
        ConfigError
            If it is of a newer version, or incomplete.
        """
        try:
            check_version(int(data["version"]), VERSION, ConfigError, "normalisation:")
            statistics = tuple(None if s is None else _statistics(s) for s in data["statistics"])
            return cls(tuple(str(m) for m in data["methods"]), statistics, int(data["version"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"normalisation: expected version, methods and statistics, got {dict(data)}") from error


def to_float16(image: np.ndarray) -> np.ndarray:
    """An image as contiguous float16; values beyond its range are clipped."""
    if image.dtype == np.float16:
        return np.ascontiguousarray(image)
    limit = float(np.finfo(np.float16).max)
    return np.clip(image, -limit, limit).astype(np.float16)


def foreground(x: np.ndarray) -> np.ndarray:
    """Which voxels of a channel are not air; bool, shape (i, j, k)."""
    nonzero = x != 0
    if not x.size or nonzero.all() or x.min() >= 0:
        return nonzero
    zero = ~nonzero
    if np.mean(_border(zero)) <= AIR_BORDER_SHARE:
        return np.ones_like(nonzero)
    from scipy import ndimage

    regions, _ = ndimage.label(zero)
    outside = np.unique(_border(regions))
    return ~np.isin(regions, outside[outside > 0])


def _border(x: np.ndarray) -> np.ndarray:
    """Voxels on the six faces of a volume (i, j, k); shape (n,)."""
    return np.concatenate([x[[0, -1]].ravel(), x[:, [0, -1]].ravel(), x[..., [0, -1]].ravel()])


def _without_outliers(x: np.ndarray) -> np.ndarray:
    """A channel with outliers set to the nearest intensity of the other voxels; the same array if there are none."""
    inliers = intensity_range(x)
    return x.clip(np.float32(inliers.low), np.float32(inliers.high)) if inliers.outliers else x


def _channel(x: np.ndarray, foreground: np.ndarray, method: str) -> np.ndarray:
    """Normalise one channel, float32, shape (i, j, k)."""
    if method == "max_min":
        low, high = float(x.min()), float(x.max())
        return _rescale(x, low, high - low)
    if method == "max":
        return _rescale(x, 0.0, float(np.abs(x).max()))
    if method == "full_volume_mean":
        return _rescale(x, *_mean_std(x))
    if method == "mean":
        return _rescale(x, *_mean_std(x[foreground]))
    result = np.zeros_like(x)
    if not foreground.any():
        return result
    values = x[foreground]
    if method == "brats":
        low, high = float(values.min()), float(values.max())
        result[foreground] = 10 + 100 * _rescale(values, low, high - low)
    else:
        result[foreground] = _rescale(values, *_mean_std(values))
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


def _statistics(data: Mapping[str, Any]) -> ForegroundStatistics:
    low, high, mean, std = (float(data[name]) for name in ("low", "high", "mean", "std"))
    if not (np.isfinite([low, high, mean, std]).all() and low <= high and std >= 0):
        raise ValueError(f"expected finite statistics, got {dict(data)}")
    return ForegroundStatistics(low, high, mean, std)
