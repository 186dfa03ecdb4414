"""The layers that networks name as reading the image and as giving an output, against the graph of a training step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models import MODELS, size_divisor
from core.models.blocks import NetworkOutput, SegmentationNetwork, WeightedLayer, weighted_layers
from core.models.build import build_model
from tests.support.peer_packages import import_or_skip


def weight_behind(node: Any) -> Tensor | None:
    """The matrix or kernel that a node of the graph gives the gradient of, through casts and transpositions alone."""
    while node is not None and len(node.next_functions) == 1:
        node = node.next_functions[0][0]
    variable: Tensor | None = getattr(node, "variable", None)
    return variable if variable is not None and variable.ndim > 1 else None


def weights_next_to(outputs: list[Tensor]) -> set[int]:
    """Identities of the weights from which outputs are computed without another weight in between."""
    found, seen = set[int](), set[Any]()
    pending: list[Any] = [output.grad_fn for output in outputs]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        inputs = [before for before, _ in node.next_functions]
        weights = [weight for weight in map(weight_behind, inputs) if weight is not None]
        found |= {id(weight) for weight in weights}
        pending += [] if weights else inputs
    return found


def cases() -> Iterator[Any]:
    """Every network, with each option that adds outputs or layers that read the image."""
    for name, entry in MODELS.items():
        yield pytest.param(ModelConfig(name), id=name)
        if "deep_supervision" in entry.options:
            yield pytest.param(ModelConfig(name, deep_supervision=True), id=f"{name}-deep_supervision")
        if "full_resolution" in entry.options:
            yield pytest.param(ModelConfig(name, full_resolution="detail"), id=f"{name}-detail")


def build(config: ModelConfig, in_channels: int) -> SegmentationNetwork:
    entry = MODELS[config.model]
    for package in entry.packages:
        import_or_skip(package, "requirements-dev.txt")
    if "channels" in entry.options:
        config = dataclasses.replace(config, channels=(2, 3) if size_divisor(config) == 1 else (4, 6, 8))
    return build_model(config, in_channels, 3)


@pytest.mark.slow
@pytest.mark.parametrize("in_channels", [1, 2])
@pytest.mark.parametrize("config", list(cases()))
def test_outer_layers_are_those_of_the_graph(config: ModelConfig, in_channels: int) -> None:
    network = build(config, in_channels)
    reads_image = set[int]()

    def record(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not inputs[0].requires_grad:
            reads_image.add(id(layer))

    for layer in weighted_layers(network):
        layer.register_forward_pre_hook(record)
    outputs = list(tensors_of(network(torch.zeros(1, in_channels, 16, 16, 16))))
    assert names(network, network.layers_reading_image()) == names(network, reads_image)
    found = {id(layer.weight) for layer in network.layers_giving_outputs()}
    assert weight_names(network, found) == weight_names(network, weights_next_to(outputs))


def tensors_of(output: Tensor | NetworkOutput) -> Iterator[Tensor]:
    """The logits and all extras."""
    if isinstance(output, Tensor):
        yield output
        return
    yield output.logits
    for extra in output.extras.values():
        yield from (extra,) if isinstance(extra, Tensor) else extra


def names(network: nn.Module, layers: list[WeightedLayer] | set[int]) -> list[str]:
    ids = layers if isinstance(layers, set) else {id(layer) for layer in layers}
    return [name for name, module in network.named_modules() if id(module) in ids]


def weight_names(network: nn.Module, ids: set[int]) -> list[str]:
    return [name for name, parameter in network.named_parameters() if id(parameter) in ids]


def test_layers_in_the_order_of_registration() -> None:
    hidden = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Linear(2, 3))
    assert weighted_layers(hidden) == [hidden[0], hidden[2]]
    assert weighted_layers(hidden[0]) == [hidden[0]] and not weighted_layers(nn.Identity())
