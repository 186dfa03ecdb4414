"""Outliers are found by their distance from all other voxels, and physical structures are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from core.imaging.outliers import describe_extremes, describe_outliers, intensity_range

BIG = (64, 64, 48)


def head(shape: tuple[int, int, int] = (24, 24, 24), seed: int = 0) -> np.ndarray:
    """A ball of 40 with noise, air around it, a brighter blob in it."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    image = np.where((grid**2).sum(0) < 0.8, 40 + np.random.default_rng(seed).normal(0, 3, shape), 0)
    image[(grid**2).sum(0) < 0.05] += 30
    return image.astype(np.float32)


def test_image_without_outliers_has_the_range_of_all_voxels() -> None:
    image = head()
    found = intensity_range(image)
    assert (found.low, found.high, found.outliers) == (image.min(), image.max(), 0)


@pytest.mark.parametrize("value", [1e6, 32767, -32768, 3e38, -1e6])
def test_one_outlier_of_either_sign_is_found(value: float) -> None:
    image = head()
    expected = float(image.min()), float(image.max())
    image[3, 4, 5] = value
    found = intensity_range(image)
    assert (found.low, found.high) == expected and found.outliers == 1
    assert np.argwhere(found.is_outlier(image)).tolist() == [[3, 4, 5]]


def test_outliers_of_several_sizes_and_both_signs_are_found() -> None:
    image = head((40, 40, 40))
    values = [1e6, 5e5, 32767, 32767, -32768, 2000, -1e5]
    for n, value in enumerate(values):
        image[5 * n, 4 * n, 39 - n] = value
    found = intensity_range(image)
    assert found.outliers == len(values) and found.low == 0 and found.high < 100


def test_outlier_in_ct_is_found_and_metal_is_not() -> None:
    generator = np.random.default_rng(0)
    ct = np.full((40, 40, 40), -1000, np.float32)
    ct[8:32, 8:32, 8:32] = generator.normal(40, 15, (24, 24, 24)).round()
    ct[20, 20, 20:24] = 3071  # clips, screws, teeth
    ct[20, 21, 20:24] = 15_000  # extended scale
    assert intensity_range(ct).outliers == 0
    ct[1, 1, 1] = 3e5
    found = intensity_range(ct)
    assert found.outliers == 1 and found.high == 15_000


def test_bright_structures_are_not_outliers() -> None:
    image = head()
    image[12, 12, 12] = 400  # ten times as bright, one voxel
    assert intensity_range(image).outliers == 0
    spots = np.zeros((32, 32, 32), np.float32)
    spots[::8, ::8, ::8] = 1000  # all there is
    assert intensity_range(spots).outliers == 0
    hot = head((40, 40, 40))
    hot[16:20, 16:20, 16:20] = 5000  # 64 voxels
    assert intensity_range(hot).outliers == 0


@pytest.mark.parametrize("value", [0, 7, -3, 1e30])
def test_constant_image_has_no_outliers_but_a_voxel_far_from_it_is_one(value: float) -> None:
    image = np.full((24, 24, 24), value, np.float32)
    assert intensity_range(image).outliers == 0
    image[2, 2, 2] = value * 1.5 + 1
    assert intensity_range(image).outliers == 0
    if value:
        image[2, 2, 2] = value * 1e6
        found = intensity_range(image)
        assert (found.low, found.high, found.outliers) == (np.float32(value), np.float32(value), 1)


def test_tiny_and_empty_contents_have_no_outliers() -> None:
    assert intensity_range(np.zeros((3, 3, 3), np.float32)).outliers == 0
    few = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    few[0, 0, 0] = 1e9
    assert intensity_range(few).outliers == 0, "too few voxels to tell"


def test_outliers_are_described_by_number_value_and_place() -> None:
    image = head()
    image[3, 4, 5] = 1e6
    text = describe_outliers(image, intensity_range(image))
    assert text.startswith("1 voxel lies far outside of all others (0 to ")
    assert text.endswith("): 1000000 at voxel 4, 5, 6")
    image[0, 0, 1:5] = -5e4
    text = describe_outliers(image, intensity_range(image))
    assert text.startswith("5 voxels lie") and text.endswith(", and 2 more")


def test_many_outliers_are_found_where_they_are_scattered_and_a_block_of_them_is_a_structure() -> None:
    scattered, block = head(BIG), head(BIG)
    places = np.random.default_rng(1).choice(scattered.size, 60, replace=False)
    scattered.reshape(-1)[places] = 32767
    assert intensity_range(scattered).outliers == 60
    block[30:34, 30:34, 20:25] = 32767
    assert intensity_range(block).outliers == 0


def test_extremes_that_are_too_many_for_outliers_are_described() -> None:
    image = head(BIG)
    assert describe_extremes(image) == ""
    image[2:8, 2:8, 2:8] = 1e6
    assert intensity_range(image).outliers == 0
    assert describe_extremes(image).startswith(
        "216 voxels (0.11 %) have 1e+06 to 1e+06, more than 100 times as far from"
    )
    assert describe_extremes(np.zeros((4, 4, 4), np.float32)) == ""


def test_metal_in_ct_and_bright_structures_are_no_extremes() -> None:
    ct = np.full((40, 40, 40), -1000, np.float32)
    ct[8:32, 8:32, 8:32] = np.random.default_rng(0).normal(40, 15, (24, 24, 24)).round()
    ct[20:24, 20:24, 20:24] = 30_000
    uptake = head(BIG) / 40
    uptake[20:26, 20:26, 20:26] = 100
    assert describe_extremes(ct) == describe_extremes(uptake) == ""


def test_a_range_below_zero_ends_at_zero_without_a_sign() -> None:
    image = -head()
    image[3, 4, 5] = -1e6
    assert "to 0)" in describe_outliers(image, intensity_range(image))
