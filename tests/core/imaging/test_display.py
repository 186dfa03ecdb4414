"""Encoding of volumes for the browser, and the initial intensity window."""

from __future__ import annotations

import numpy as np
import pytest

from core.imaging.display import Grid, channels, encode_image, encode_label
from core.imaging.geometry import Geometry

SHAPE = (3, 4, 5)


def test_encoded_axis_order_is_i_fastest_channels_slowest() -> None:
    first = np.arange(60, dtype=np.float32).reshape(SHAPE)
    image = np.stack([first, 100 - first])
    ranges = channels(image, ["T1", "T2"])
    stored = np.frombuffer(encode_image(image, ranges), "<u2").reshape(2, 5, 4, 3)
    for n, channel in enumerate(ranges):
        decoded = channel.low + stored[n] / 65535 * (channel.high - channel.low)
        np.testing.assert_allclose(decoded.transpose(2, 1, 0), image[n], atol=59 / 65535)
    assert (ranges[0].name, ranges[0].low, ranges[0].high) == ("T1", 0.0, 59.0)
    labels = np.arange(60, dtype=np.uint8).reshape(SHAPE)
    assert np.array_equal(np.frombuffer(encode_label(labels), np.uint8).reshape(5, 4, 3).transpose(2, 1, 0), labels)


def test_window_of_a_skull_stripped_volume_starts_at_air_and_ignores_outliers() -> None:
    image = np.zeros((1, 20, 20, 20), np.float32)
    image[0, 5:15] = np.random.default_rng(0).normal(500, 20, (10, 20, 20))
    image[0, 7, 7, 7] = 30_000
    (channel,) = channels(image, ["T1"])
    assert channel.window[0] == 0 and 530 < channel.window[1] < 600
    assert channel.high == 30_000


def test_window_of_other_volumes_excludes_both_extremes() -> None:
    image = np.linspace(10, 1010, 8000, dtype=np.float32).reshape(1, 20, 20, 20)
    (channel,) = channels(image, ["T1"])
    assert channel.window == pytest.approx((15, 1005), abs=1)


def test_constant_and_negative_intensities_are_encoded() -> None:
    (flat,) = channels(np.full((1, *SHAPE), 7, np.float32), ["x"])
    assert flat.low == 7 and flat.high > 7
    assert set(np.frombuffer(encode_image(np.full((1, *SHAPE), 7, np.float32), [flat]), "<u2")) == {0}
    (ct,) = channels(np.linspace(-1000, 3000, 60, dtype=np.float32).reshape(1, *SHAPE), ["CT"])
    assert (ct.low, ct.high) == (-1000, 3000)


def test_labels_must_be_uint8() -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_label(np.zeros(SHAPE, np.int32))


def test_grid_of_an_unknown_orientation_has_no_affine() -> None:
    affine = np.diag([1, 2, 3, 1.0])
    known, unknown = (Grid.from_geometry(Geometry(SHAPE, affine, oriented)) for oriented in (True, False))
    assert known.spacing_mm == (1, 2, 3) and known.affine is not None and known.affine[1] == (0, 2, 0, 0)
    assert unknown.affine is None
