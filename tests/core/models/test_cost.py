"""Counted parameters and operations against the networks themselves and torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from core.config import ModelConfig
from core.models import build_model
from core.models.cost import network_cost

CONFIGS = [
    ModelConfig(),
    ModelConfig(
        channels=(8, 16, 24), norm="instance", activation="leaky_relu", downsampling="stride", widening="after"
    ),
    ModelConfig(
        channels=(4, 8, 12, 16),
        convolutions=(1, 2),
        norm="instance",
        downsampling="stride",
        widening="after",
        full_resolution="detail",
    ),
    ModelConfig(channels=(4, 8), convolutions=(2,), full_resolution="detail"),
    ModelConfig(channels=(8, 16), norm="group", activation="prelu"),
    ModelConfig(model="vnet", channels=(4, 8, 16)),
]


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_equal_the_networks(config: ModelConfig) -> None:
    network = build_model(config, 2, 4)
    assert network_cost(config, 2, 4, (32, 32, 32)).parameters == sum(p.numel() for p in network.parameters())


def test_article_network_has_the_published_parameters() -> None:
    assert network_cost(ModelConfig(), 2, 4, (128, 128, 64)).parameters == 19_074_724


@pytest.mark.parametrize("config", CONFIGS)
def test_operations_equal_torchs_flop_counter(config: ModelConfig) -> None:
    with torch.device("meta"):
        network = build_model(config, 1, 3)
        image = torch.zeros(1, 1, 32, 24, 16)
    with FlopCounterMode(display=False) as counter:
        network(image)
    assert network_cost(config, 1, 3, (32, 24, 16)).forward_gflop == pytest.approx(
        counter.get_total_flops() / 1e9, rel=1e-6
    )
