"""Hashed noise: the stated distribution, and a function of the sub-volume and the kernel alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.models.hashed_noise import ChannelDropout, noise_key, normal_noise, uniform_noise


def keys(count: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn((count, 1, 5, 4, 3), generator=generator)
    return noise_key(image, torch.randn((2, 1, 3, 3, 3), generator=generator))


def test_uniform_numbers_fill_the_interval_evenly() -> None:
    numbers = uniform_noise(keys(), 2048)
    assert numbers.min() > 0 and numbers.max() < 1
    counts = torch.histc(numbers, bins=16, min=0, max=1)
    expected = numbers.numel() / 16
    chi_squared = ((counts - expected).square() / expected).sum()
    assert chi_squared < 45, "15 degrees of freedom: above in one of 10,000"


def test_normal_numbers_have_the_moments_of_the_standard_normal_distribution() -> None:
    numbers = normal_noise(keys(), 2048)
    n = numbers.numel()
    assert numbers.mean().abs() < 4 / n**0.5
    assert numbers.var().item() == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    assert numbers.pow(3).mean().abs() < 4 * (15 / n) ** 0.5
    assert numbers.pow(4).mean().item() == pytest.approx(3, abs=4 * (96 / n) ** 0.5)


def test_items_places_and_streams_are_not_correlated() -> None:
    first, second = normal_noise(keys(), 512), normal_noise(keys(), 512, stream=2)
    limit = 4 / first.numel() ** 0.5
    assert (first * second).mean().abs() < limit
    assert (first[1:] * first[:-1]).mean().abs() < limit
    assert (first[:, 1:] * first[:, :-1]).mean().abs() < limit


def test_key_changes_with_one_voxel_of_the_grid_the_order_and_the_kernel() -> None:
    image, kernel = torch.randn(1, 2, 6, 5, 4), torch.randn(2, 2, 3, 3, 3)
    key = noise_key(image, kernel)
    assert torch.equal(key, noise_key(image.clone(), kernel.clone()))
    other = image.clone()
    other[0, 1, 3, 2, 1] += 1e-6
    assert not torch.equal(key, noise_key(other, kernel))
    assert not torch.equal(key, noise_key(image.flip(2), kernel))
    assert not torch.equal(key, noise_key(image, torch.nextafter(kernel, kernel + 1)))


def test_key_of_a_sub_volume_does_not_depend_on_the_rest_of_the_batch() -> None:
    images, kernel = torch.randn(3, 1, 20, 17, 9), torch.randn(4)
    alone = torch.cat([noise_key(image[None], kernel) for image in images])
    assert torch.equal(noise_key(images, kernel), alone)
    assert len(set(alone.flatten().tolist())) == 3


def test_dropout_zeroes_its_share_of_channels_and_scales_the_others() -> None:
    dropout, key = ChannelDropout(0.2), keys(200)
    x = torch.ones(200, 32, 1, 1, 1)
    result = dropout(x, key)
    assert set(result.unique().tolist()) == {0.0, 1.25}
    assert (result == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert dropout.eval()(x, key) is x
