"""Blends the colours of classes over a grey picture; ignored voxels are hatched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.colours import IGNORE_COLOUR, rgb
from core.labels import IGNORE_INDEX

HATCH_PERIOD = 6  # pixels between the lines of the hatching, along a row
HATCH_WIDTH = 2  # pixels


def overlay_classes(picture: np.ndarray, index: np.ndarray, colours: Sequence[str], opacity: float) -> np.ndarray:
    """Blend colours over a picture; the background is unchanged, and so are the gaps of the hatching.

    Parameters
    ----------
    picture : ndarray, shape (row, column, 3). Red, green and blue, 0 to 255.
    index : ndarray, integer, shape (row, column). Class indices, :data:`core.labels.IGNORE_INDEX` where ignored.
    colours : sequence of str. ``#rrggbb`` of each class, background first.
    opacity : float. Of the colours, 0 to 1.

    Returns
    -------
    ndarray, floating, shape (row, column, 3).
    """
    table = np.zeros((IGNORE_INDEX + 1, 3), np.float32)
    table[: len(colours)] = [rgb(colour) for colour in colours]
    table[IGNORE_INDEX] = rgb(IGNORE_COLOUR)
    rows, columns = index.shape
    hatched = (np.arange(rows)[:, None] + np.arange(columns)) % HATCH_PERIOD < HATCH_WIDTH
    coloured = (index > 0) & ((index != IGNORE_INDEX) | hatched)
    return np.where(coloured[..., None], (1 - opacity) * picture + opacity * table[index], picture)
