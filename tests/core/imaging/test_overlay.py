"""Colours of classes over a picture: by voxel, ignored voxels hatched."""

from __future__ import annotations

import numpy as np

from core.colours import IGNORE_COLOUR, rgb
from core.imaging.overlay import overlay_classes
from core.labels import IGNORE_INDEX

COLOURS = ("#8b909a", "#ff0000", "#0000ff")


def test_classes_are_blended_and_the_background_is_not() -> None:
    picture = np.full((1, 3, 3), 100.0)
    blended = overlay_classes(picture, np.array([[0, 1, 2]], np.uint8), COLOURS, 0.5)
    assert blended.tolist() == [[[100, 100, 100], [177.5, 50, 50], [50, 50, 177.5]]]


def test_ignored_voxels_are_hatched() -> None:
    picture = np.zeros((30, 30, 3))
    index = np.full((30, 30), IGNORE_INDEX, np.uint8)
    blended = overlay_classes(picture, index, COLOURS, 1.0)
    lines = (blended == rgb(IGNORE_COLOUR)).all(axis=-1)
    assert 0.25 < lines.mean() < 0.45 and (blended[~lines] == 0).all()
    assert lines[0, :6].any() and not lines[0, :6].all() and np.array_equal(lines[1:, :-1], lines[:-1, 1:])
