"""The 2D U-Net on slices: the published layers, and no value passes from slice to slice."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from core.compute.determinism import deterministic
from core.config import ModelConfig
from core.models.build import build_model
from core.models.unet2d import UNet2D, to_slices, to_volume
from tests.core.models.test_unet3d import image, parameters


def unet2d(in_channels: int = 2, classes: int = 3, **options: Any) -> UNet2D:
    network = build_model(ModelConfig("unet2d", **options), in_channels, classes)
    assert isinstance(network, UNet2D)
    return network


@pytest.mark.slow
def test_default_network_has_the_layers_of_the_paper() -> None:
    with torch.device("meta"):
        network = unet2d(1, 2)
    convolutions = [m for m in network.modules() if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d))]
    assert len(convolutions) == 23, "the paper: in total the network has 23 convolutional layers"
    assert all(m.kernel_size[0] == 1 for m in convolutions), "along k nothing is convolved"
    widths = (1, 64, 128, 256, 512, 1024)
    count = sum(9 * a * b + 9 * b * b + 2 * b for a, b in itertools.pairwise(widths))
    count += sum(4 * 2 * b * b + b + 9 * 2 * b * b + 9 * b * b + 2 * b for b in widths[1:-1])
    count += 64 * 2 + 2
    assert count == 31_030_658
    assert parameters(network, nn.BatchNorm3d) == 11_776
    assert parameters(network) == count + 11_776


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_slice_is_segmented_as_if_it_were_alone(norm: Any) -> None:
    network = unet2d(channels=(4, 6, 8), norm=norm)
    x = image(9, 12, 5)
    logits = network(x)
    for k in range(5):
        torch.testing.assert_close(network(x[..., k : k + 1]), logits[..., k : k + 1])


def test_pooling_and_up_convolution_act_within_a_slice() -> None:
    network = unet2d(1, 2, channels=(3, 4)).eval()
    x = image(8, 6, 4, channels=1)
    first, last = network.encoder
    a = first(x)
    b = last(a)
    assert b.shape == (1, 4, 4, 3, 4)
    flat = to_slices(a)[:, :, 0]
    pooled = F.max_pool2d(flat, 2)[:, :, None]
    assert torch.equal(b, to_volume(last.get_submodule("convolutions")(pooled), 1))
    with deterministic(True):
        assert torch.equal(last(a), b)


def test_slices_and_volume_are_each_others_inverse_without_a_copy() -> None:
    slices = torch.randn(6, 3, 1, 4, 5)
    volume = to_volume(slices, 2)
    assert volume.shape == (2, 3, 4, 5, 3)
    assert torch.equal(volume[1, :, :, :, 2], slices[5, :, 0])
    again = to_slices(volume)
    assert torch.equal(again, slices) and again.data_ptr() == slices.data_ptr()


@pytest.mark.parametrize("size", [(4, 4, 5), (3, 4, 1), (1, 1, 3), (5, 3, 2)])
def test_small_slices_get_a_second_pixel_at_the_deepest_level(size: tuple[int, int, int]) -> None:
    network = unet2d(channels=(4, 6, 8), norm="instance")
    x = image(*size)
    padded, crop = network.pad(x)
    assert padded.shape[4] == size[2], "k is not padded"
    assert padded.shape[2] * padded.shape[3] > 16 and all(n % 4 == 0 for n in padded.shape[2:4])
    assert torch.equal(crop(padded), x)
    assert network(x).shape == (1, 3, *size)
