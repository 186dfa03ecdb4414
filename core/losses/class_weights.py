"""Weights of the classes for the weighted cross-entropy, from the label maps of the training subjects.

With n_c voxels of class c in all of them, the weight of the class is proportional to n_c^-q, and the weights have the
mean 1. The power q = 1 gives inverse frequencies, with which all classes count alike however rare they are; they favour
rare classes so much that these are found where they are not. The default of the configuration, 1/2, is half way (on a
logarithmic scale) to plain cross-entropy, q = 0. A class of which there is no voxel has the largest weight of the
others.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def class_weights(label_maps: Iterable[np.ndarray], classes: int, power: float) -> tuple[float, ...]:
    """The weight of each class.

    Parameters
    ----------
    label_maps : iterable of ndarray, uint8. Class indices; other values, such as the ignore label, are not counted.
    classes : int. Number of classes, the background included.
    power : float. Power q.
    """
    voxels = np.zeros(256, np.int64)
    for label in label_maps:
        for piece in label:  # numpy counts in 8 bytes per voxel
            voxels += np.bincount(piece.reshape(-1), minlength=256)
    counts = voxels[:classes].astype(np.float64)
    present = counts > 0
    if not present.any():
        return (1.0,) * classes
    weights = np.full(classes, counts[present].min())
    weights[present] = counts[present]
    weights = weights**-power
    return tuple(float(w) for w in weights / weights.mean())
