"""Deformations: a flow undoes its opposite, a translation stays one, and folding is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from core.datasets.synthetic.anatomy import enlarge, integrate, smallest_jacobian, smooth_noise


def test_flow_of_a_constant_velocity_is_a_translation() -> None:
    velocity = np.broadcast_to(np.array([1.0, -0.5, 0.25], np.float32)[:, None, None, None], (3, 8, 8, 8))
    displacement = integrate(velocity)
    np.testing.assert_allclose(displacement, velocity, atol=1e-5)
    assert smallest_jacobian(displacement) == pytest.approx(1, abs=1e-4)


def test_flow_and_opposite_flow_undo_each_other() -> None:
    rng = np.random.default_rng(0)
    velocity = np.stack([smooth_noise(rng, (32, 32, 32), 5.0) for _ in range(3)])
    there, back = integrate(velocity), integrate(-velocity)
    at = np.indices(there.shape[1:]) + there
    left = there + np.stack([ndimage.map_coordinates(b, at, order=1, mode="nearest") for b in back])
    inner = (slice(None),) + (slice(6, -6),) * 3
    assert np.abs(there[inner]).max() > 1
    assert np.abs(left[inner]).max() < 0.1
    assert smallest_jacobian(there) > 0


def test_folding_is_noticed() -> None:
    mirrored = np.zeros((3, 6, 6, 6))
    mirrored[0] = -2 * np.arange(6)[:, None, None]
    assert smallest_jacobian(mirrored) == pytest.approx(-1)
    halved = np.zeros((3, 6, 6, 6))
    halved[1] = -0.5 * np.arange(6)[None, :, None]
    assert smallest_jacobian(halved) == pytest.approx(0.5)


def test_enlarge_interpolates_linearly() -> None:
    coarse = np.arange(4, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    np.testing.assert_allclose(enlarge(coarse, (6, 5), 2)[:, 0], [0, 0.5, 1, 1.5, 2, 2.5])


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_noise_is_smooth_and_of_unit_size(sigma: float) -> None:
    shape = (40, 41, 42)
    noise = smooth_noise(np.random.default_rng(1), shape, sigma)
    assert noise.shape == shape
    assert noise.dtype == np.float32
    assert 0.6 < noise.std() < 1.2
    neighbour = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    assert neighbour == pytest.approx(np.exp(-1 / (4 * sigma**2)), abs=0.06)
