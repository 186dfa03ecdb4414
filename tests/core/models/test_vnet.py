"""The V-Net: the published stages, every norm, every size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from core.config import ModelConfig
from core.losses.dice import dice_loss
from core.models import resolve
from core.models.vnet import ResidualStage, VNet
from tests.core.models.test_unet3d import image, kernels, parameters


def vnet(in_channels: int = 2, classes: int = 4, **options: Any) -> VNet:
    return VNet(resolve(ModelConfig("vnet", **options)), in_channels, classes)


def test_default_network_has_the_layers_of_the_paper() -> None:
    with torch.device("meta"):
        network = vnet(1, 2)
    conv, up = "conv", "up"
    encoder = [(conv, 1, 16, 5)]
    for width, convolutions in ((32, 2), (64, 3), (128, 3), (256, 3)):
        encoder += [(conv, width // 2, width, 2)] + [(conv, width, width, 5)] * convolutions
    decoder = []
    for below, skip, convolutions in ((256, 128, 3), (256, 64, 3), (128, 32, 2), (64, 16, 1)):
        decoder += [(up, below, skip, 2)] + [(conv, 2 * skip, 2 * skip, 5)] * convolutions
    assert kernels(network) == [*encoder, *decoder, (conv, 32, 2, 1)]
    assert network.divisor == (16, 16, 16)
    assert not any(isinstance(m, (nn.ReLU, nn.LeakyReLU, nn.MaxPool3d)) for m in network.modules())


def test_parameter_count_by_hand() -> None:
    with torch.device("meta"):
        network = vnet(1, 2)
    fives = [(1, 16, 1), (32, 32, 2), (64, 64, 3), (128, 128, 3), (256, 256, 3)]
    fives += [(256, 256, 3), (128, 128, 3), (64, 64, 2), (32, 32, 1)]
    twos = [(16, 32), (32, 64), (64, 128), (128, 256), (256, 128), (256, 64), (128, 32), (64, 16)]
    # Each convolution has weights and biases, a norm of twice its channels, and one PReLU slope per channel.
    count = sum(n * (125 * i * o + 4 * o) for i, o, n in fives) + sum(8 * i * o + 4 * o for i, o in twos)
    assert parameters(network) == count + 32 * 2 + 2


def test_several_modalities_reach_the_residual_sum_through_a_1x1x1_convolution() -> None:
    network = vnet(2, 4, channels=(4, 8))
    assert kernels(network)[0] == ("conv", 2, 4, 1)
    assert isinstance(vnet(1, 4, channels=(4, 8)).entry, nn.Identity)


def test_stages_are_residual() -> None:
    stage = ResidualStage(4, 4, convolutions=2, norm="instance")
    last_norm = stage.get_submodule("convolutions.1.1")
    assert isinstance(last_norm, nn.InstanceNorm3d)
    nn.init.zeros_(last_norm.weight)
    x = image(5, 5, 5, channels=4)
    torch.testing.assert_close(stage(x, x), torch.where(x > 0, x, 0.25 * x))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_every_norm_works_with_any_size(norm: Any, in_channels: int) -> None:
    network = vnet(in_channels, 3, channels=(4, 6, 8), norm=norm)
    for size in [(1, 1, 1), (1, 9, 6), (7, 5, 11)]:
        logits = network(image(*size, channels=in_channels))
        assert logits.shape == (1, 3, *size)
        assert logits.isfinite().all()
        logits.square().sum().backward()
    assert network.eval()(image(2, 7, 1, channels=in_channels)).shape == (1, 3, 2, 7, 1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_bfloat16_autocast_is_close_to_float32() -> None:
    torch.manual_seed(0)
    network = vnet(2, 4, channels=(8, 16, 32))
    x = image(16, 12, 9)
    exact = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(x)
    assert (rounded.float() - exact).square().mean().sqrt() < 0.03 * exact.std()


def test_forward_has_no_device_sync() -> None:
    with torch.device("meta"):
        network = vnet(2, 4, channels=(4, 8, 16))
    assert network(torch.empty(1, 2, 9, 16, 8, device="meta")).shape == (1, 4, 9, 16, 8)


@pytest.mark.slow
def test_overfits_one_sub_volume() -> None:
    torch.manual_seed(0)
    target = torch.zeros(1, 8, 9, 10, dtype=torch.long)
    target[:, 1:5, 2:7, 2:6] = 1
    target[:, 5:7, 2:7, 2:8] = 2
    x = target[:, None].float() + 0.2 * image(8, 9, 10, channels=1)
    network = vnet(1, 3, channels=(4, 8))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = dice_loss(network(x), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


def test_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image of shape \(batch, 2, i, j, k\)"):
        vnet(2, 4, channels=(4, 8))(torch.zeros(1, 1, 8, 8, 8))
