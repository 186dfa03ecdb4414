"""Cropping to the content of an image, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.datasets.loading import LoadedSubject
from core.datasets.prepare import prepare_loaded
from core.imaging.content import content_box, embed
from core.imaging.geometry import Geometry
from core.imaging.normalise import Normaliser

SHAPE = (9, 8, 7)


def phantom() -> np.ndarray:
    """Two channels whose content overlaps in part: i 2 to 6, j 1 to 4, k 3 to 5 together; one voxel is negative."""
    image = np.zeros((2, *SHAPE), np.float32)
    image[0, 2:5, 1:4, 3:5] = 7
    image[1, 4:7, 2:5, 4:6] = 3
    image[1, 6, 4, 5] = -1
    return image


def test_the_box_holds_what_is_not_zero_in_any_channel() -> None:
    assert content_box(phantom()) == (slice(2, 7), slice(1, 5), slice(3, 6))
    assert content_box(np.zeros((1, *SHAPE))) == tuple(slice(0, n) for n in SHAPE), "an image of zeros stays whole"


def test_what_is_cropped_is_put_back_in_its_place() -> None:
    image = phantom()
    box = content_box(image)
    np.testing.assert_array_equal(embed(image[:, *box], box, np.zeros_like(image)), image)


def test_image_and_label_map_are_cropped_alike_and_no_label_is_lost() -> None:
    image, label = phantom(), np.zeros(SHAPE, np.uint8)
    label[3, 2, 3], label[8, 2, 4] = 1, 2  # the second outside of the content
    geometry = Geometry(SHAPE, np.diag([1.0, 1.2, 1.5, 1.0]))
    loaded = LoadedSubject("a", image, label, geometry, geometry, Path("a.nii"))
    normaliser = Normaliser(("max", "max"))
    whole, cropped = (prepare_loaded(loaded, normaliser, None, crop) for crop in (False, True))
    assert cropped.image.shape == (2, 7, 4, 3) and cropped.label.shape == (7, 4, 3)
    np.testing.assert_array_equal(cropped.image, whole.image[:, 2:9, 1:5, 3:6])
    np.testing.assert_array_equal(cropped.label, label[2:9, 1:5, 3:6])
    assert np.bincount(cropped.label.ravel()).tolist()[1:] == [1, 1]
