"""Normalisation formulas against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core.errors import ConfigError
from core.imaging.normalise import METHODS, normalise

X = np.array([0, 0, 2, 4, 6, 8], np.float32).reshape(1, 1, 2, 3)  # non-zero: mean 5, population variance 5


def normalised(method: str) -> list[float]:
    return normalise(X, method).reshape(-1).tolist()


def test_formulas_by_hand() -> None:
    assert normalised("max_min") == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1])
    assert normalised("max") == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1])
    spread = math.sqrt(80 / 9)  # of all six: mean 10/3, mean square 20
    assert normalised("full_volume_mean") == pytest.approx([(v - 10 / 3) / spread for v in (0, 0, 2, 4, 6, 8)])
    assert normalised("mean") == pytest.approx([(v - 5) / math.sqrt(5) for v in (0, 0, 2, 4, 6, 8)])
    assert normalised("z_score") == pytest.approx([0, 0, *((v - 5) / math.sqrt(5) for v in (2, 4, 6, 8))])
    assert normalised("brats") == pytest.approx([0, 0, 10, 10 + 100 / 3, 10 + 200 / 3, 110])


def test_max_min_is_invariant_to_an_offset_and_max_is_not() -> None:
    assert normalise(X + 10, "max_min") == pytest.approx(normalise(X, "max_min"))
    assert normalise(X - 4, "max").min() == -1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0, 7, -3, 0.1, 1e30])
def test_constant_images_stay_finite(method: str, value: float) -> None:
    constant = normalise(np.full((2, 3, 4, 5), value, np.float32), method)
    assert constant.dtype == np.float32 and constant.shape == (2, 3, 4, 5)
    expected = 10 if method == "brats" and value else math.copysign(1, value) if method == "max" and value else 0
    assert np.all(constant == expected)


@pytest.mark.parametrize("method", METHODS)
def test_channels_are_independent_and_the_image_is_not_modified(method: str) -> None:
    image = np.random.default_rng(0).normal(50, 20, (2, 4, 5, 6)).astype(np.float32)
    image[1] *= 1000
    before = image.copy()
    both = normalise(image, method)
    assert np.array_equal(image, before)
    for channel in range(2):
        assert np.array_equal(both[channel], normalise(image[channel : channel + 1], method)[0])


@pytest.mark.parametrize("method", METHODS)
def test_extreme_intensities_stay_finite(method: str) -> None:
    image = np.zeros((1, 4, 4, 4), np.float32)
    image[0, 0] = np.finfo(np.float32).max
    image[0, 1] = np.finfo(np.float32).min
    assert np.isfinite(normalise(image, method)).all()
    assert normalise(np.zeros((0, 4, 4, 4), np.float32), method).shape == (0, 4, 4, 4)


def test_unknown_method_is_rejected() -> None:
    with pytest.raises(ConfigError, match="expected one of max_min"):
        normalise(X, "minmax")


def test_statistics_are_accumulated_in_double_precision() -> None:
    """A small contrast on a large offset: float32 sums would lose the standard deviation."""
    rng = np.random.default_rng(0)
    image = (20_000 + rng.normal(0, 2, (1, 80, 80, 80))).astype(np.float32)
    for method in ("full_volume_mean", "mean", "z_score"):
        result = normalise(image, method).astype(np.float64)
        exact = (image - image.mean(dtype=np.float64)) / image.astype(np.float64).std()
        assert np.abs(result - exact).max() < 1e-5, method


def test_a_constant_channel_with_rounding_noise_becomes_zeros() -> None:
    image = np.full((1, 4, 4, 4), 1000.0, np.float32)
    image[0, 0, 0, 0] = np.nextafter(np.float32(1000), np.float32(2000))  # a spread of 1e-8 of the mean
    for method in ("full_volume_mean", "mean", "z_score"):
        assert not normalise(image, method).any(), method


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64, np.float32, np.float16])
@pytest.mark.parametrize("method", METHODS)
def test_result_is_float32_for_every_dtype_and_for_empty_channels(method: str, dtype: type) -> None:
    result = normalise(X.astype(dtype), method)
    assert result.dtype == np.float32
    assert result == pytest.approx(normalise(X, method), abs=1e-6)
    assert normalise(np.zeros((1, 0, 2, 2), dtype), method).shape == (1, 0, 2, 2)


def test_error_lists_the_methods() -> None:
    with pytest.raises(ConfigError) as caught:
        normalise(X, "histogram")
    assert f"{', '.join(METHODS)}; got 'histogram'" in str(caught.value)
