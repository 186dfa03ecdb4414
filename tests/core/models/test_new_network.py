"""A network that is added to the registry, and nothing else, can be built, trained, traced and looked at."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models import MODELS, size_divisor
from core.models.architecture import Architecture
from core.models.blocks import ConvUnit, SegmentationNetwork, StageModule, encoder_decoder_stages
from core.models.build import build_model
from core.models.contract import check_network
from core.models.network_trace import trace_network


class TwoLevels(SegmentationNetwork):
    """One convolution at full and one at half resolution, whose upsampled sum is classified."""

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
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


TWO_LEVELS = Architecture("two_levels", __name__, "TwoLevels", "two levels", channels=(4, 8))


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    monkeypatch.setitem(MODELS, TWO_LEVELS.name, TWO_LEVELS)
    return ModelConfig("two_levels")


def test_added_network_is_built(config: ModelConfig) -> None:
    network = build_model(config, 2, 3)
    assert network.config.channels == (4, 8) and network.divisor == (size_divisor(config),) * 3 == (2, 2, 2)
    assert network(torch.randn(1, 2, 5, 4, 3)).shape == (1, 3, 5, 4, 3)


def test_added_network_keeps_the_contract(config: ModelConfig) -> None:
    check_network(config)


def test_parameters_operations_and_stages_of_an_added_network_are_traced(config: ModelConfig) -> None:
    trace = trace_network(config, 2, 3, (8, 8, 8))
    assert trace.parameters == sum(p.numel() for p in build_model(config, 2, 3).parameters())
    voxels = 8**3
    products = voxels * (27 * 2 * 4 + 4 * 3) + voxels // 8 * (8 * 4 * 8 + 8 * 8 * 4)
    assert trace.forward_gflop == pytest.approx(2 * products / 1e9)
    assert [(s.kind, s.level, s.channels, s.size) for s in trace.stages] == [
        ("encoder", 0, 4, (8, 8, 8)),
        ("bottleneck", 1, 8, (4, 4, 4)),
        ("decoder", 0, 4, (8, 8, 8)),
        ("logits", 0, 3, (8, 8, 8)),
    ]
