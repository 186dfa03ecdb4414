"""Map of the errors of a segmentation: what kind of error each voxel is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.labels import leave_out_ignored


@dataclass(frozen=True)
class ErrorKind:
    """A kind of error.

    Attributes
    ----------
    name : str.
    colour : str. ``#rrggbb``.
    help : str. What has happened.
    """

    name: str
    colour: str
    help: str


FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS = 1, 2, 3  # values of the map; 0 is no error
ERROR_KINDS = (  # in the order of these values
    ErrorKind("false positive", "#ff9f40", "background in the reference, a class in the prediction"),
    ErrorKind("false negative", "#4fc3f7", "a class in the reference, background in the prediction"),
    ErrorKind("wrong class", "#c72fb0", "one class in the reference, another one in the prediction"),
)
DESCRIPTION = "errors: " + ", ".join(f"{n} {name}" for n, name in enumerate(("none", *(k.name for k in ERROR_KINDS))))


def error_map(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The kind of error of each voxel.

    Parameters
    ----------
    truth, prediction : ndarray, integer, same shape. Class indices; ignored voxels in the truth are no errors.

    Returns
    -------
    ndarray, uint8, same shape. 0 where both agree, else 1 + the index in :data:`ERROR_KINDS`.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"expected segmentations of one shape, got {truth.shape} and {prediction.shape}")
    scored = leave_out_ignored(truth, prediction)
    kinds = np.full(truth.shape, WRONG_CLASS, np.uint8)
    kinds[truth == 0] = FALSE_POSITIVE
    kinds[scored == 0] = FALSE_NEGATIVE
    kinds[truth == scored] = 0
    return kinds
