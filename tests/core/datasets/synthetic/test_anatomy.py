"""Deformations and noise of the synthetic anatomy against closed-form results."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from core.datasets.synthetic.anatomy import integrate_velocity, min_jacobian, smooth_noise, upsample_linear


def test_flow_of_constant_velocity_is_a_translation() -> None:
    velocity = np.broadcast_to(np.array([1.0, -0.5, 0.25], np.float32)[:, None, None, None], (3, 8, 8, 8))
    displacement = integrate_velocity(velocity)
    np.testing.assert_allclose(displacement, velocity, atol=1e-5)
    assert min_jacobian(displacement) == pytest.approx(1, abs=1e-4)


def test_flows_of_opposite_velocities_are_inverse() -> None:
    rng = np.random.default_rng(0)
    velocity = np.stack([smooth_noise(rng, (32, 32, 32), 5.0) for _ in range(3)])
    forward, backward = integrate_velocity(velocity), integrate_velocity(-velocity)
    coordinates = np.indices(forward.shape[1:]) + forward
    residual = forward + np.stack([ndimage.map_coordinates(b, coordinates, order=1, mode="nearest") for b in backward])
    inner = (slice(None),) + (slice(6, -6),) * 3
    assert np.abs(forward[inner]).max() > 1
    assert np.abs(residual[inner]).max() < 0.1
    assert min_jacobian(forward) > 0


def test_min_jacobian_is_negative_with_folds() -> None:
    mirrored = np.zeros((3, 6, 6, 6))
    mirrored[0] = -2 * np.arange(6)[:, None, None]
    assert min_jacobian(mirrored) == pytest.approx(-1)
    halved = np.zeros((3, 6, 6, 6))
    halved[1] = -0.5 * np.arange(6)[None, :, None]
    assert min_jacobian(halved) == pytest.approx(0.5)


def test_upsampling_interpolates_linearly() -> None:
    coarse = np.arange(4, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    np.testing.assert_allclose(upsample_linear(coarse, (6, 5), 2)[:, 0], [0, 0.5, 1, 1.5, 2, 2.5])


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_noise_has_unit_variance_and_the_given_smoothness(sigma: float) -> None:
    shape = (40, 41, 42)
    noise = smooth_noise(np.random.default_rng(1), shape, sigma)
    assert noise.shape == shape
    assert noise.dtype == np.float32
    assert 0.6 < noise.std() < 1.2
    neighbour = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    assert neighbour == pytest.approx(np.exp(-1 / (4 * sigma**2)), abs=0.06)
