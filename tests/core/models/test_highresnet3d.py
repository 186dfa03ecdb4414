"""The HighRes3DNet: the published layers and weights, dilation by interleaving."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from core.config import ModelConfig
from core.models.build import build_model
from core.models.highresnet3d import HighResNet3D, InterleavedConv3d, ResidualBlock
from tests.core.models.test_unet3d import image


def highresnet(in_channels: int = 1, classes: int = 2, **options: Any) -> HighResNet3D:
    network = build_model(ModelConfig("highresnet3d", **options), in_channels, classes)
    assert isinstance(network, HighResNet3D)
    return network


def test_default_network_has_the_layers_and_weights_of_the_paper() -> None:
    with torch.device("meta"):
        network = highresnet(1, 160)
    layers = [
        (m.in_channels, m.out_channels, m.kernel_size[0], getattr(m, "step", 1))
        for m in network.modules()
        if isinstance(m, nn.Conv3d)
    ]
    expected = [(1, 16, 3, 1), *[(16, 16, 3, 1)] * 6]
    expected += [(16, 32, 3, 2), *[(32, 32, 3, 2)] * 5, (32, 64, 3, 4), *[(64, 64, 3, 4)] * 5, (64, 160, 1, 1)]
    assert layers == expected and len(layers) == 20, "20 layers of convolutions"
    kernels = sum(p.numel() for p in network.parameters() if p.ndim > 1)
    assert kernels == sum(i * o * k**3 for i, o, k, _ in expected) == 812_464, "the paper: 0.81 million"
    vectors = sum(p.numel() for p in network.parameters() if p.ndim == 1)
    assert vectors == 1_408 + 160, "scales and shifts; biases of the classifier"


@pytest.mark.parametrize("step", [1, 2, 4])
def test_interleaved_convolution_equals_a_dilated_one(step: int) -> None:
    convolution = InterleavedConv3d(3, 5, step)
    dilated = nn.Conv3d(3, 5, 3, padding=step, dilation=step, bias=False)
    dilated.load_state_dict(convolution.state_dict())
    x = torch.randn(2, 3, 8, 4, 12)
    torch.testing.assert_close(convolution(x), dilated(x))


def test_receptive_field_is_87_voxels() -> None:
    network = highresnet(1, 2, channels=(1, 1, 1))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.fill_(1.0)  # nothing cancels
    x = torch.rand(1, 1, 100, 4, 4, requires_grad=True)
    network.eval()(x)[0, 0, 50, 2, 2].backward()
    assert x.grad is not None
    seen = x.grad[0, 0].abs().sum(dim=(1, 2)).nonzero().flatten()
    assert (seen[0].item(), seen[-1].item()) == (50 - 43, 50 + 43)


def test_blocks_are_residual_with_zeros_for_new_channels() -> None:
    block = ResidualBlock(2, 5, 2, ModelConfig("highresnet3d", channels=(2, 5)))
    for module in block.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.zeros_(module.weight)
    x = image(4, 6, 2)
    y = block(x)
    assert torch.equal(y[:, 1:3], x) and not y[:, [0, 3, 4]].any()
