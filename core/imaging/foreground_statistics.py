"""Measures what the normalisation ``ct`` needs in training subjects, and recognises Hounsfield units."""

from __future__ import annotations

import re

import numpy as np

from core.errors import DatasetError
from core.imaging.normalise import ForegroundStatistics
from core.imaging.outliers import intensity_range, sample_voxels
from core.labels import IGNORE_INDEX

VOXELS_PER_SUBJECT = 100_000  # labelled voxels of a subject that are measured at most, evenly spaced
PERCENTILES = (0.5, 99.5)
AIR_HU = -900.0  # an image in Hounsfield units has voxels of air, whose value is about -1000
COMMON_HU = (-1100.0, 3100.0)  # range of a 12-bit CT
COMMON_SHARE = 0.95  # of the voxels above the lowest value, which may mark voxels outside the field of view
_CT_NAME = re.compile(r"(?<![a-z])(cb|ce|ld|hr)?ct(?![a-z])|tomography|hounsfield")


class ForegroundIntensities:
    """Collects intensities of labelled voxels, subject by subject.

    Parameters
    ----------
    channels : int. Number of channels of the images.
    """

    def __init__(self, channels: int) -> None:
        self._samples: list[list[np.ndarray]] = [[] for _ in range(channels)]

    def add(self, image: np.ndarray, label: np.ndarray) -> None:
        """Add a subject.

        Parameters
        ----------
        image : ndarray, float32, shape (channel, i, j, k). Intensities as in the file.
        label : ndarray, uint8, shape (i, j, k). Class indices.
        """
        labelled = np.flatnonzero((label > 0) & (label != IGNORE_INDEX))
        chosen = labelled[:: max(1, -(-labelled.size // VOXELS_PER_SUBJECT))]
        for samples, values in zip(self._samples, image, strict=True):
            samples.append(values.reshape(-1)[chosen])

    @property
    def is_empty(self) -> bool:
        """Whether no voxel was labelled."""
        return not any(part.size for samples in self._samples for part in samples)

    def statistics(self) -> tuple[ForegroundStatistics, ...]:
        """Statistics of each channel.

        Raises
        ------
        DatasetError
            If no voxel was labelled.
        """
        return tuple(_measure(np.concatenate(samples)) for samples in self._samples)


def is_named_ct(modality: str) -> bool:
    """Whether the name of a modality says that it is computed tomography: ``CT``, ``CT_venous``, ``cbct``."""
    return _CT_NAME.search(modality.lower()) is not None


def is_in_hounsfield_units(values: np.ndarray) -> bool:
    """Whether intensities look like Hounsfield units: whole numbers, the least of them -900 or less, and of those above
    it 95 % from -1100 to 3100.

    Parameters
    ----------
    values : ndarray, float32, shape (i, j, k). Intensities; outliers do not count.
    """
    inliers = intensity_range(values)
    sample = sample_voxels(values)
    sample = sample[~inliers.is_outlier(sample)]
    if inliers.low > AIR_HU or not np.array_equal(sample, np.rint(sample)):
        return False
    above = sample[sample > inliers.low]
    low, high = COMMON_HU
    return bool(above.size) and float(np.mean((above >= low) & (above <= high))) >= COMMON_SHARE


def _measure(values: np.ndarray) -> ForegroundStatistics:
    if not values.size:
        raise DatasetError(
            "normalisation ct: expected labelled voxels in the training subjects, found none; add labels, or choose "
            "--normalisation z_score"
        )
    low, high = (float(v) for v in np.percentile(values.astype(np.float64), PERCENTILES))
    clipped = values.astype(np.float64).clip(low, high)
    return ForegroundStatistics(low, high, float(clipped.mean()), float(clipped.std()))
