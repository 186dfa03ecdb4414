"""Intensity augmentation by hand and against SciPy and torch, per channel; labels and geometry do not change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest
from torch import Tensor

from core.augmentation import intensity as intensities
from core.augmentation.augmenter import Augmenter
from core.augmentation.intensity import (
    IntensityChange,
    apply_intensity,
    change_voxelwise,
    draw_intensity,
    gaussian_matrix,
    linear_matrix,
    low_resolution_matrix,
    smooth,
)
from core.config import AugmentConfig
from core.sampling.patches import PatchLocation
from core.types import Size3, triple
from tests.support.augmentation import SPATIAL, config, generator, on_cpu, textured


def brain(batch: int = 8, channels: int = 2) -> Tensor:
    """Random intensities in the middle, exact zeros around."""
    image = torch.zeros(batch, channels, 12, 12, 12)
    image[:, :, 3:9, 3:9, 3:9] = torch.randn(batch, channels, 6, 6, 6, generator=generator(1))
    return image


def change_intensity(image: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Draw a change of an image (batch, channel, i, j, k) and apply it to a copy."""
    changes = draw_intensity(config, image.shape[0], image.shape[1], triple(image.shape[2:]), generator)
    return apply_intensity(image.clone(), changes)


def test_intensity_changes_neither_label_nor_geometry() -> None:
    subjects, size = textured((20, 20, 20)), (10, 9, 8)
    locations = [PatchLocation(0, (n, 2, 3)) for n in range(4)]
    image, label = Augmenter(config(intensity=1.0, noise=0.1), size)(subjects, locations, generator())
    plain_image, plain_label = subjects.crop(locations, size)
    assert torch.equal(label, plain_label)
    assert not torch.equal(image, plain_image)
    for n in range(4):
        for channel in range(2):
            pair = torch.stack((image[n, channel].flatten(), plain_image[n, channel].flatten()))
            assert torch.corrcoef(pair)[0, 1] > 0.3


def test_zeros_stay_zero_except_under_blur_and_low_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intensities, "smooth", lambda channel, matrices: None)
    image = brain()
    changed = change_intensity(image, config(intensity=1.0, noise=1.0), generator())
    assert torch.equal(changed == 0, image == 0)
    assert (changed != image)[image != 0].all()


def test_subject_is_not_modified() -> None:
    subjects = textured((10, 10, 10))
    before = subjects.image(0), subjects.label(0).clone()
    Augmenter(config(intensity=1.0, noise=1.0), (10, 10, 10))(subjects, [PatchLocation(0, (0, 0, 0))], generator())
    assert torch.equal(subjects.image(0), before[0]) and torch.equal(subjects.label(0), before[1])


@pytest.mark.parametrize("count", [1, 2**18 + 3])
def test_noise_is_gaussian(count: int) -> None:
    """Independent per voxel, across the chunks in which it is generated."""
    channel = torch.ones(count, 1, 1)
    intensities.add_noise(channel, 2.0, seed=5)
    noise = (channel.flatten() - 1).numpy() / 2
    if count > 1:
        assert kstest(noise, "norm").pvalue > 0.01
        assert noise.std() == pytest.approx(1, abs=0.01)
        assert 3.9 < np.abs(noise).max() < 4.5
        for lag in (1, 2, 3, 4, 8, 2**16, 2**17):
            assert abs(np.corrcoef(noise[:-lag], noise[lag:])[0, 1]) < 0.01
    again, other = torch.ones(count, 1, 1), torch.ones(count, 1, 1)
    intensities.add_noise(again, 2.0, seed=5)
    intensities.add_noise(other, 2.0, seed=6)
    assert torch.equal(again, channel) and not torch.equal(other, channel)


def test_noise_is_bounded_and_differs_from_channel_to_channel() -> None:
    image = torch.ones(16, 2, 12, 12, 12)
    noise = change_intensity(image, config(noise=0.3), generator()) - 1
    strengths = noise.std(dim=(2, 3, 4)).flatten()
    assert strengths.max() < 0.3 * 1.1
    assert strengths.max() > 0.25
    assert strengths.min() < 0.05
    assert len(strengths.unique()) == 32
    assert (noise.mean(dim=(2, 3, 4)).abs() < 0.05).all()
    later = change_intensity(image, config(noise=0.3), generator(1)) - 1
    patterns = torch.corrcoef(torch.cat((noise, later)).flatten(0, 1).flatten(1))
    assert (patterns - torch.eye(64)).abs().max() < 0.15


def test_channels_and_sub_volumes_change_independently() -> None:
    one = torch.randn(1, 1, 8, 8, 8, generator=generator(3)).repeat(10, 2, 1, 1, 1)
    changed = change_intensity(one, config(intensity=0.5), generator()).flatten(0, 1)
    assert len({tuple(c.flatten().tolist()) for c in changed}) >= 18


def test_intensity_is_the_probability_of_each_change() -> None:
    image = brain(batch=200, channels=1)[:, :, 3:9, 3:9, 3:9].contiguous()
    changed = change_intensity(image, config(intensity=0.05), generator())
    untouched = ((changed - image).abs() < 1e-4).all(dim=(1, 2, 3, 4)).float().mean()
    assert untouched.item() == pytest.approx(0.95**6, abs=0.1)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e4])
def test_augmented_intensities_are_finite(value: float) -> None:
    shape = (20, 20, 20)
    everything = config(**SPATIAL["everything"], intensity=1.0, noise=1.0)
    constant, rough = np.full((2, *shape), value), np.random.default_rng(0).normal(value, abs(value) + 1, (2, *shape))
    for image in (constant, rough):
        for seed in range(3):
            subjects = on_cpu(image, np.ones(shape))
            changed, _ = Augmenter(everything, (16, 12, 8))(
                subjects, [PatchLocation(0, (n, 2, 14)) for n in range(4)], generator(seed)
            )
            assert changed.dtype == torch.float32
            assert changed.isfinite().all()


def voxelwise(values: list[float], **change: Any) -> list[float]:
    channel = torch.tensor(values).reshape(-1, 1, 1)
    change_voxelwise(channel, IntensityChange(**change))
    return channel.flatten().tolist()


def test_gamma_by_hand() -> None:
    assert voxelwise([1.0, 2.0, 3.0, 5.0], gamma=2.0) == pytest.approx([1, 1.25, 2, 5], abs=1e-5)
    assert voxelwise([-2.0, -1.0, 0.0, 2.0], gamma=0.5) == pytest.approx([-2, 0, 0, 2], abs=1e-5)
    assert voxelwise([3.0, 3.0], gamma=2.0) == pytest.approx([3, 3], abs=1e-5)


def test_contrast_and_brightness_by_hand_with_and_without_gamma() -> None:
    assert voxelwise([1.0, -2.0, 0.0], contrast=2.0, brightness=0.5) == [2.5, -3.5, 0]
    both = voxelwise([1.0, 2.0, 3.0, 5.0], gamma=2.0, contrast=2.0, brightness=0.5)
    assert both == pytest.approx([2.5, 3, 4.5, 10.5], abs=1e-5)


@pytest.mark.parametrize("size", [(9, 8, 7), (40, 64, 64)])
def test_bias_field_equals_torchs_interpolation_of_its_control_points(size: Size3) -> None:
    control = torch.randn(4, 4, 4, generator=generator()).exp()
    channel = torch.ones(size)
    change_voxelwise(channel, IntensityChange(bias_field=control))
    field = torch.nn.functional.interpolate(control[None, None], size=size, mode="trilinear", align_corners=True)
    torch.testing.assert_close(channel, field[0, 0])


def test_chunked_change_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image, options = torch.randn(1, 2, 40, 20, 24, generator=generator()), config(intensity=1.0, noise=0.1)
    whole = change_intensity(image, options, generator())
    monkeypatch.setattr(intensities, "CHUNK_VOXELS", 1200)
    torch.testing.assert_close(change_intensity(image, options, generator()), whole, rtol=1e-5, atol=1e-5)


def blur(image: Tensor, sigmas: list[float]) -> Tensor:
    image = image.clone()
    for channel, sigma in zip(image.flatten(0, 1), sigmas, strict=True):
        i, j, k = (gaussian_matrix(n, sigma) for n in channel.shape)
        smooth(channel, (i, j, k))
    return image


def test_blur_equals_scipys_with_a_sigma_per_channel() -> None:
    image = torch.randn(2, 2, 9, 10, 11, generator=generator())
    sigmas = [0.5, 0.0, 1.0, 0.8]
    for found, plain, sigma in zip(blur(image, sigmas).flatten(0, 1).numpy(), image.flatten(0, 1), sigmas, strict=True):
        expected = gaussian_filter(plain.numpy(), sigma, mode="nearest", radius=3) if sigma else plain.numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blur_does_not_darken_the_border() -> None:
    image = torch.full((1, 1, 8, 8, 8), 5.0)
    torch.testing.assert_close(blur(image, [1.0]), image)


@pytest.mark.parametrize(("new", "old"), [(7, 4), (4, 7), (5, 5), (9, 2)])
def test_linear_matrix_equals_torchs_interpolation(new: int, old: int) -> None:
    values = torch.randn(1, 1, old, generator=generator())
    expected = torch.nn.functional.interpolate(values, size=new, mode="linear", align_corners=True)
    torch.testing.assert_close(linear_matrix(new, old) @ values[0, 0], expected[0, 0])


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_low_resolution_equals_torchs_interpolation_down_and_up(share: float) -> None:
    channel = torch.randn(16, 10, 12, generator=generator())
    down = [math.ceil(n * share) for n in channel.shape]
    small = torch.nn.functional.interpolate(channel[None, None], size=down, mode="trilinear", align_corners=True)
    expected = torch.nn.functional.interpolate(small, size=channel.shape, mode="trilinear", align_corners=True)[0, 0]
    i, j, k = (low_resolution_matrix(n, share) for n in channel.shape)
    smooth(channel, (i, j, k))
    torch.testing.assert_close(channel, expected, rtol=1e-5, atol=1e-5)


def test_low_resolution_keeps_linear_ramps_and_halves_the_rank() -> None:
    n = 16
    matrix = low_resolution_matrix(n, 0.5)
    ramp = torch.arange(float(n))
    torch.testing.assert_close(matrix @ ramp, ramp)
    assert torch.linalg.matrix_rank(matrix) == n // 2
    assert torch.equal(low_resolution_matrix(n, 1.0), torch.eye(n))


def test_low_resolution_is_drawn_with_its_probability() -> None:
    """Low resolution lowers the rank of the smoothing matrix, down to half of the size."""
    changes = draw_intensity(config(intensity=0.3), 100, 2, (32, 4, 4), generator())
    assert len(changes) == 200
    smoothed = torch.stack([c.smoothing[0] for c in changes if c.smoothing is not None])
    assert len(smoothed) == pytest.approx(200 * (1 - 0.7**2), abs=25)
    ranks = torch.linalg.matrix_rank(smoothed, rtol=1e-4)
    fewer = ranks[ranks < 32]
    assert len(fewer) == pytest.approx(200 * 0.3, abs=20)
    assert 16 <= fewer.min() <= 17 and fewer.max() >= 29
