"""Normalisation formulas against values computed by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from core.errors import ConfigError
from core.imaging.normalise import METHODS, ForegroundStatistics, Normaliser, foreground

X = np.array([0, 0, 2, 4, 6, 8], np.float32).reshape(1, 1, 2, 3)  # non-zero: mean 5, population variance 5


def normalise(image: np.ndarray, method: str, version: int = 2) -> np.ndarray:
    return Normaliser.of_images(method, len(image), version)(image)


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
    assert f"{', '.join(METHODS)} or ct; got 'histogram'" in str(caught.value)


def spiked(value: float = 32767) -> tuple[np.ndarray, np.ndarray]:
    """A head without and with one voxel of another value in the air."""
    grid = np.stack(np.meshgrid(*3 * [np.linspace(-1, 1, 24)], indexing="ij"))
    image = np.where((grid**2).sum(0) < 0.8, 40 + np.random.default_rng(0).normal(0, 3, 3 * [24]), 0)
    image[(grid**2).sum(0) < 0.05] += 30
    clean = image.astype(np.float32)[None]
    spoilt = clean.copy()
    spoilt[0, 0, 0, 0] = value
    return clean, spoilt


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [32767, 1e6, -1e6])
def test_contrast_does_not_depend_on_an_outlier(method: str, value: float) -> None:
    clean, spoilt = spiked(value)
    inside = clean[0] != 0
    expected, found = normalise(clean, method)[0], normalise(spoilt, method)[0]
    assert np.ptp(found[inside]) == pytest.approx(np.ptp(expected[inside]), rel=0.01)
    assert np.abs(found).max() < 1.1 * np.abs(expected).max()
    lost = normalise(spoilt, method, version=1)[0][inside]
    assert np.ptp(lost) < 0.2 * np.ptp(expected[inside]), "as checkpoints of version 1 go on doing"


@pytest.mark.parametrize("method", METHODS)
def test_images_without_outliers_are_normalised_as_in_version_1(method: str) -> None:
    clean, _ = spiked()
    noise = np.random.default_rng(1).normal(100, 20, (1, 20, 20, 20)).astype(np.float32).clip(0)
    for image in (clean, noise, X):
        assert np.array_equal(normalise(image, method), normalise(image, method, version=1))


def test_zero_in_ct_is_an_intensity_and_not_air() -> None:
    generator = np.random.default_rng(0)
    ct = np.full((1, 24, 24, 24), -1000, np.float32)
    ct[0, 4:20, 4:20, 4:20] = generator.integers(-20, 60, (16, 16, 16))
    water = ct[0] == 0
    assert water.any()
    for method in ("z_score", "brats", "mean"):
        result = normalise(ct, method)[0]
        above, below = result[ct[0] == 1], result[ct[0] == -1]
        assert below.max() < result[water].min() and result[water].max() < above.min(), method
        assert result[water] == pytest.approx((above[0] + below[0]) / 2, abs=1e-4), method
        if method != "mean":
            assert not normalise(ct, method, version=1)[0][water].any(), "as checkpoints of version 1 go on doing"


def test_air_of_an_image_with_negative_intensities_is_the_zeros_around_the_content() -> None:
    image = np.zeros((20, 20, 20), np.float32)
    image[5:15, 5:15, 5:15] = np.random.default_rng(0).normal(0, 1, (10, 10, 10))
    image[8, 8, 8] = 0
    expected = np.zeros(image.shape, bool)
    expected[5:15, 5:15, 5:15] = True
    assert np.array_equal(foreground(image), expected)
    assert normalise(image[None], "z_score")[0][0, 0, 0] == 0


def test_zeros_of_an_image_without_negative_intensities_are_air_wherever_they_are() -> None:
    assert np.array_equal(foreground(X[0]), X[0] != 0)


CT = ForegroundStatistics(low=-100, high=300, mean=60, std=80)


def test_ct_is_clipped_and_scaled_by_the_statistics_of_the_training_subjects() -> None:
    image = np.array([-1000, -100, 0, 60, 140, 300, 3000, 3e5], np.float32).reshape(1, 2, 2, 2)
    result = Normaliser(("ct",), (CT,))(image).reshape(-1)
    assert result.tolist() == pytest.approx([-2, -2, -0.75, 0, 1, 3, 3, 3])
    assert not Normaliser(("ct",), (CT,))(np.zeros((1, 3, 3, 3))).any(), "that there is no image of, it stays 0"


def test_channels_may_have_different_methods() -> None:
    pair = np.concatenate([np.full((1, 1, 2, 3), 60, np.float32), X])
    both = Normaliser(("ct", "z_score"), (CT, None))(pair)
    assert not both[0].any() and np.array_equal(both[1], normalise(X, "z_score")[0])


def test_missing_statistics_and_a_wrong_number_of_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="ct: expected the percentiles, mean and std of the training subjects"):
        Normaliser(("ct",))
    with pytest.raises(ConfigError, match="train again"):
        Normaliser(("z_score", "ct"), (CT, None))
    with pytest.raises(ValueError, match="expected 1 channels"):
        Normaliser(("z_score",))(np.zeros((2, 2, 2, 2)))


def test_normaliser_survives_the_metadata_of_a_checkpoint() -> None:
    for normaliser in (Normaliser(("ct", "z_score"), (CT, None)), Normaliser.of_images("max", 3, version=1)):
        assert Normaliser.from_json(json.loads(json.dumps(normaliser.to_json()))) == normaliser
    for damage in ({"version": 3}, {"statistics": [{"low": 1}]}, {"methods": None}, {"statistics": [None]}):
        with pytest.raises(ConfigError):
            Normaliser.from_json(Normaliser(("ct",), (CT,)).to_json() | damage)


def test_intensities_that_a_network_does_not_expect_are_reported() -> None:
    clean, spoilt = spiked()
    for version, expected in ((1, "T1: 1 voxel lies far outside of all others"), (2, "")):
        normaliser = Normaliser.of_images("z_score", 1, version)
        assert normaliser.warnings(clean, ["T1"]) == []
        assert "".join(normaliser.warnings(spoilt, ["T1"])).startswith(expected)
    ct = Normaliser(("ct",), (CT,))
    assert ct.warnings(clean - 1000, ["CT"]) == []
    (warning,) = ct.warnings(clean, ["CT"])
    assert warning.startswith(
        "CT: expected Hounsfield units as in training, where -100 to 300 are common, got intensities"
    )
