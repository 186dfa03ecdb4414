"""Encoding of volumes for the browser, and the initial intensity window."""

from __future__ import annotations

import numpy as np
import pytest

from core.imaging.display import Grid, channels, encode_image, encode_label, encode_part, part_channel
from core.imaging.geometry import Geometry
from tests.support.encoded_images import decode_image

SHAPE = (3, 4, 5)


def test_encoded_axis_order_is_i_fastest_channels_slowest() -> None:
    first = np.arange(60, dtype=np.float32).reshape(SHAPE)
    image = np.stack([first, 100 - first])
    encoded = encode_image(image, channels(image, ["T1", "T2"]))
    stored = np.frombuffer(encoded.data, "<u2").reshape(2, 5, 4, 3)
    for n, channel in enumerate(encoded.channels):
        assert np.array_equal((channel.offset + stored[n] * channel.step).transpose(2, 1, 0), image[n])
    assert (encoded.channels[0].name, encoded.channels[0].low, encoded.channels[0].high) == ("T1", 0.0, 59.0)
    labels = np.arange(60, dtype=np.uint8).reshape(SHAPE)
    assert np.array_equal(np.frombuffer(encode_label(labels), np.uint8).reshape(5, 4, 3).transpose(2, 1, 0), labels)


def test_window_of_a_skull_stripped_volume_starts_at_air_and_ignores_outliers() -> None:
    image = np.zeros((1, 20, 20, 20), np.float32)
    image[0, 5:15] = np.random.default_rng(0).normal(500, 20, (10, 20, 20))
    image[0, 7, 7, 7] = 30_000
    (channel,) = channels(image, ["T1"])
    assert channel.window[0] == 0 and 530 < channel.window[1] < 600
    assert channel.high < 700, "the range of the window's sliders, without the outlier"


def test_window_of_other_volumes_excludes_both_extremes() -> None:
    image = np.linspace(10, 1010, 8000, dtype=np.float32).reshape(1, 20, 20, 20)
    (channel,) = channels(image, ["T1"])
    assert channel.window == pytest.approx((15, 1005), abs=1)


def test_constant_and_negative_intensities_are_encoded() -> None:
    flat = np.full((1, *SHAPE), 7, np.float32)
    (channel,) = channels(flat, ["x"])
    assert channel.low == 7 and channel.high > 7
    assert_exact(flat)
    ct = np.linspace(-1000, 3000, 60, dtype=np.float32).reshape(1, *SHAPE)
    (channel,) = channels(ct, ["CT"])
    assert (channel.low, channel.high) == (-1000, 3000)
    assert_exact(ct)


def assert_exact(image: np.ndarray) -> None:
    encoded = encode_image(image, channels(image, [f"m{n}" for n in range(len(image))]))
    assert encoded.exact
    assert np.array_equal(decode_image(encoded.data, encoded.channels, image.shape[1:]), image)


BIG = (64, 64, 40)  # more voxels than values of 16 bits


@pytest.mark.parametrize("outlier", [None, 3e5, -2e6, 32767])
def test_ct_is_read_in_steps_of_1_hu_whatever_its_outliers(outlier: float | None) -> None:
    ct = np.random.default_rng(0).integers(-1024, 3072, (1, *BIG)).astype(np.float32)
    if outlier is not None:
        ct[0, 3, 4, 5] = outlier
    assert_exact(ct)


@pytest.mark.parametrize("outlier", [None, 1e6])
def test_sixteen_bit_numbers_with_a_slope_are_exact(outlier: float | None) -> None:
    raw = np.random.default_rng(0).integers(-3000, 30000, (2, *BIG))
    image = (raw * 0.00731 + 12.5).astype(np.float32)
    if outlier is not None:
        image[0, 3, 4, 5] = outlier
    assert_exact(image)


def test_all_sixteen_bit_numbers_and_small_images_of_any_numbers_are_exact() -> None:
    assert_exact(np.arange(65536, dtype=np.float32).reshape(1, 64, 32, 32) - 32768)
    assert_exact(np.random.default_rng(0).normal(0, 1e-3, (2, 40, 40, 40)).astype(np.float32))


def test_other_numbers_are_rounded_to_fine_steps_of_the_range_without_outliers() -> None:
    image = np.random.default_rng(0).random((1, *BIG)).astype(np.float32)
    image[0, 3, 4, 5], image[0, 6, 7, 8] = 1e6, -1e6
    encoded = encode_image(image, channels(image, ["T1"]))
    (channel,) = encoded.channels
    assert not encoded.exact and channel.low >= 0 and channel.high <= 1
    decoded = decode_image(encoded.data, encoded.channels, BIG)
    others = np.abs(image) < 2
    assert np.abs(decoded - image)[others].max() <= 1 / 65535
    assert decoded[0, 3, 4, 5] == pytest.approx(channel.high) and decoded[0, 6, 7, 8] == pytest.approx(channel.low)


def test_range_does_not_follow_extremes_that_are_too_many_to_be_outliers() -> None:
    image = np.random.default_rng(0).random((1, *BIG)).astype(np.float32)
    image[0, 10:16, 10:16, 10:16] = 1e6
    (channel,) = channels(image, ["T1"])
    assert channel.window[1] < 1.1 and channel.high < 20


@pytest.mark.parametrize("case", ["zero", "ct", "negative outlier", "standardised"])
def test_stored_background_is_the_air_around_the_content(case: str) -> None:
    image = np.zeros((1, 20, 20, 20), np.float32)
    content = np.random.default_rng(0).normal(100, 10, (8, 8, 8))
    image[0, 6:14, 6:14, 6:14] = content
    if case == "ct":
        image = (image * 10 - 1024).round()
    if case == "negative outlier":
        image[0, 7, 7, 7] = -1e6
    if case == "standardised":
        image[0, 6:14, 6:14, 6:14] = (content - 100) / 10
    encoded = encode_image(image, channels(image, ["T1"]))
    stored = np.frombuffer(encoded.data, "<u2", 8000).reshape(20, 20, 20)
    inside = np.argwhere(stored != encoded.channels[0].stored_background)
    assert inside.min(0).tolist() == [6, 6, 6] and inside.max(0).tolist() == [13, 13, 13]


def test_labels_must_be_uint8() -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_label(np.zeros(SHAPE, np.int32))


def test_grid_of_an_unknown_orientation_has_no_affine() -> None:
    affine = np.diag([1, 2, 3, 1.0])
    known, unknown = (Grid.from_geometry(Geometry(SHAPE, affine, oriented)) for oriented in (True, False))
    assert known.spacing_mm == (1, 2, 3) and known.affine is not None and known.affine[1] == (0, 2, 0, 0)
    assert unknown.affine is None


@pytest.mark.parametrize(
    ("dtype", "scaled", "exact"),
    [
        ("int16", False, True),
        ("uint8", False, True),
        ("uint16", False, True),
        ("int32", False, False),
        ("int16", True, False),
        ("float32", False, False),
    ],
)
def test_parts_are_exact_where_the_type_allows_it_else_within_a_step(dtype: str, scaled: bool, exact: bool) -> None:
    values = np.random.default_rng(1).integers(0, 200, (6, 5, 4)).astype(np.float32)
    channel = part_channel("CT", values[::2], dtype, scaled)
    shown = np.frombuffer(encode_part(values, channel), "<u2").reshape(values.shape, order="F")
    expected = values if exact else values.clip(channel.low, channel.high)
    difference = np.abs(channel.offset + shown * channel.step - expected)
    assert channel.exact == exact and difference.max() <= (0 if exact else channel.step)
    beyond = encode_part(np.full((1, 1, 1), 1e9, np.float32), channel)
    assert np.frombuffer(beyond, "<u2") == 65535
