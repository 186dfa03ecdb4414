"""Parameters, operations and stages of networks, read from their modules."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from core.config import ModelConfig
from core.models.build import build_model
from core.models.network_trace import trace_network

CONFIGS = [
    ModelConfig(channels=(8, 16)),
    ModelConfig(channels=(4, 8, 12), convolutions=(1, 2), norm="instance", downsampling="stride", widening="after",
                full_resolution="detail"),
    ModelConfig(model="vnet", channels=(4, 8, 16)),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.model}-{config.full_resolution}")
def test_parameters_and_operations_are_the_networks(config: ModelConfig) -> None:
    network = build_model(config, 2, 4).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 2, 18, 16, 8))
    trace = trace_network(config, 2, 4, (18, 16, 8))
    assert trace.parameters == sum(p.numel() for p in network.parameters())
    assert trace.forward_gflop == pytest.approx(counter.get_total_flops() / 1e9, rel=1e-9)


def test_article_network_has_the_published_parameters() -> None:
    assert trace_network(ModelConfig(), 2, 4, (16, 16, 16)).parameters == 19_074_724


def test_stages_are_listed_with_channels_and_sizes() -> None:
    trace = trace_network(ModelConfig(channels=(4, 8), widening="after", full_resolution="detail"), 2, 3, (10, 8, 7))
    found = [(s.kind, s.level, s.channels, s.size, s.reads_image) for s in trace.stages]
    assert found == [
        ("encoder", 0, 4, (10, 8, 8), True),
        ("bottleneck", 1, 8, (5, 4, 4), True),
        ("decoder", 0, 8, (10, 8, 8), False),
        ("logits", 0, 3, (10, 8, 8), False),
    ]
