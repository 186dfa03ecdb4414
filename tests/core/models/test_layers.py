"""The torch-free description of each network against the network itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models import MODELS, build_model
from core.models.layers import list_layers, list_stages, reads_image_at

DETAIL = ModelConfig(channels=(4, 6, 8), convolutions=(1, 2), full_resolution="detail")
CONFIGS = [
    *(ModelConfig(name) for name in MODELS),
    ModelConfig(channels=(4, 6, 8), activation="prelu", downsampling="stride", widening="after"),
    DETAIL,
]


@pytest.mark.slow
@pytest.mark.parametrize("in_channels", [1, 2])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_layers_are_the_networks_convolutions_in_the_order_of_computation(
    config: ModelConfig, in_channels: int
) -> None:
    with torch.device("meta"):
        network = build_model(config, in_channels, 3)
        image = torch.empty(1, in_channels, *(2 * n for n in network.divisor))
    calls: list[tuple[Any, ...]] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, (nn.Conv3d, nn.ConvTranspose3d))
        level = (image.shape[2] // output.shape[2]).bit_length() - 1
        kernel, stride = module.kernel_size[0], module.stride[0]
        transposed = isinstance(module, nn.ConvTranspose3d)
        calls.append((module.in_channels, module.out_channels, kernel, stride, level, transposed))

    for module in network.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            module.register_forward_hook(record)
    network(image)
    layers = list_layers(config, in_channels, 3)
    assert calls == [
        (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.level, layer.transposed)
        for layer in layers
    ]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_stages_are_the_networks_stages(config: ModelConfig) -> None:
    with torch.device("meta"):
        network = build_model(config, 2, 3)
        image = torch.empty(1, 2, *(2 * n for n in network.divisor))
    stages: list[tuple[Any, ...]] = []
    for stage in network.stages():

        def record(
            module: nn.Module, inputs: Any, output: Tensor, kind: str = stage.kind, level: int = stage.level
        ) -> None:
            assert output.shape[2] == image.shape[2] >> level
            stages.append((kind, level, output.shape[1]))

        stage.module.register_forward_hook(record)
    network(image)
    assert stages == [(stage.kind, stage.level, stage.channels) for stage in list_stages(config, 2, 3)]


def test_levels_that_read_the_image() -> None:
    assert [reads_image_at(DETAIL, level) for level in range(3)] == [True, True, False]
    for name in MODELS:
        assert [reads_image_at(ModelConfig(name), level) for level in range(3)] == [True, False, False]
