"""Cropping to the content of an image, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.datasets.loading import LoadedSubject
from core.datasets.prepare import prepare_loaded
from core.imaging.content import content_box, embed, present_channels
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


@pytest.mark.parametrize("kind", [np.float32, np.float16, "tensor"])
def test_a_channel_is_present_where_any_voxel_is_not_zero(kind: Any) -> None:
    image = np.zeros((4, 21, 8, 7), np.float32)
    image[0, 20, 7, 6], image[1, 0, 0, 0], image[2, 10, 3, 3] = 1, -2, 1e-7
    read = torch.from_numpy(image) if kind == "tensor" else image.astype(kind)
    assert present_channels(read) == (True, True, True, False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_channel_whose_only_values_are_not_finite_is_present_and_not_taken_for_0(
    value: float, as_tensor: bool
) -> None:
    image = np.zeros((2, 9, 4, 4), np.float32)
    image[0, 1, 2, 3] = value
    read = torch.from_numpy(image) if as_tensor else image
    assert present_channels(read) == (True, False)


def test_what_half_precision_rounds_to_zero_is_not_present() -> None:
    image = np.full((2, 3, 3, 3), 2.9e-8, np.float32)
    image[1] = 3.1e-8
    assert present_channels(image) == tuple(bool(c.any()) for c in image.astype(np.float16)) == (False, True)


def test_little_is_read_of_a_channel_that_is_present(tmp_path: Path) -> None:
    class Counted:
        """A channel that counts the slices that are looked at."""

        looked_at = 0

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, where: slice) -> np.ndarray:
            Counted.looked_at += len(range(1000)[where])
            return np.ones((1, 1, 1))

    assert present_channels([Counted()]) == (True,) and Counted.looked_at < 20


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
