"""A network that is added to the registry, and nothing else, can be built, counted and estimated."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.config import LossConfig, ModelConfig, OptimConfig
from core.models import MODELS, build_model, size_divisor
from core.models.blocks import ConvUnit, SegmentationNetwork, StageModule, encoder_decoder_stages
from core.models.cost import network_cost
from core.models.layers import list_stages
from core.models.memory import PassShape, inference_bytes, training_bytes
from core.models.spec import Architecture, Operators, T


class TwoLevels(SegmentationNetwork):
    """One convolution at full and one at half resolution, whose upsampled sum is classified."""

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(TWO_LEVELS, config, in_channels, classes)
        full, half = self.config.channels
        self.first = ConvUnit(in_channels, full, self.config.norm, "relu")
        self.deep = ConvUnit(full, half, self.config.norm, "relu", kernel_size=2, stride=2)
        self.up = nn.ConvTranspose3d(half, full, kernel_size=2, stride=2)
        self.classifier = nn.Conv3d(full, classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        inside, crop = self.pad(image)
        x = self.first(inside)
        return crop(self.classifier(x + self.up(self.deep(x))))

    def stages(self) -> list[StageModule]:
        return encoder_decoder_stages([self.first, self.deep], [self.up], self.classifier)


def forward(ops: Operators[T], config: ModelConfig, image: T, classes: int) -> T:
    full, half = config.channels
    x = ops.conv_unit(image, full, config.norm, "relu")
    ops.mark_stage("encoder", 0, x, reads_image=True)
    deep = ops.conv_unit(x, half, config.norm, "relu", kernel_size=2, stride=2)
    ops.mark_stage("bottleneck", 1, deep)
    up = ops.convolve(deep, full, kernel_size=2, stride=2, transposed=True)
    ops.mark_stage("decoder", 0, up)
    ops.release(deep)
    total = ops.add(x, up)
    ops.release(x, up)
    logits = ops.convolve(total, classes, kernel_size=1)
    ops.mark_stage("logits", 0, logits)
    ops.release(total, image)
    return logits


TWO_LEVELS = Architecture("two_levels", __name__, "TwoLevels", (4, 8), "two levels", forward)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    monkeypatch.setitem(MODELS, TWO_LEVELS.name, TWO_LEVELS)
    return ModelConfig("two_levels")


def test_added_network_is_built_and_counted(config: ModelConfig) -> None:
    network = build_model(config, 2, 3)
    assert network.config.channels == (4, 8) and network.divisor == (size_divisor(config),) * 3 == (2, 2, 2)
    assert network(torch.randn(1, 2, 5, 4, 3)).shape == (1, 3, 5, 4, 3)
    assert network_cost(config, 2, 3, (8, 8, 8)).parameters == sum(p.numel() for p in network.parameters())
    stages = [(stage.kind, stage.level) for stage in network.stages()]
    assert stages == [(stage.kind, stage.level) for stage in list_stages(config, 2, 3)]


def test_memory_of_an_added_network_is_estimated(config: ModelConfig) -> None:
    shape = PassShape(2, 3, (32, 32, 32))
    assert 0 < inference_bytes(config, shape) < training_bytes(config, LossConfig(), OptimConfig(), shape)
