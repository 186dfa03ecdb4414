"""Reads parameters, operations and stages of a network from its module, by one forward pass without values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.compute.convolution_workspace import TracedConvolution
from core.compute.tracing import AllocationTracer, fake_tensors, to_fake, without_large_tensors
from core.config import ModelConfig
from core.models.architecture import StageKind
from core.models.blocks import SegmentationNetwork
from core.models.build import build_model
from core.types import Size3, triple


@dataclass(frozen=True)
class TracedStage:
    """Output of one stage of a network.

    Attributes
    ----------
    kind : "encoder", "bottleneck", "decoder" or "logits".
    level : int. Resolution; 0 is full resolution.
    channels : int
    size : tuple of int. Voxels along (i, j, k).
    reads_image : bool. Whether the stage starts from the image instead of another stage's output.
    """

    kind: StageKind
    level: int
    channels: int
    size: Size3
    reads_image: bool


@dataclass(frozen=True)
class NetworkTrace:
    """What a forward pass of one image shows.

    Attributes
    ----------
    parameters : int. Learned values.
    forward_gflop : float. 1e9 floating-point operations; a multiply-add is two.
    stages : tuple of TracedStage. In the order of computation; the last gives the logits.
    convolutions : tuple of TracedConvolution. In the order of computation.
    """

    parameters: int
    forward_gflop: float
    stages: tuple[TracedStage, ...]
    convolutions: tuple[TracedConvolution, ...]


def build_fake_network(config: ModelConfig, in_channels: int, classes: int) -> SegmentationNetwork:
    """The configured network on tensors without values; for use under :func:`core.compute.tracing.fake_tensors`.

    Raises
    ------
    ConfigError
        As :func:`core.models.build.build_model`.
    """
    with torch.utils._python_dispatch._disable_current_modes(), without_large_tensors():
        network = build_model(config, in_channels, classes)
    to_fake(network)
    return network


def count_parameters(network: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def trace_network(config: ModelConfig, in_channels: int, classes: int, size: Size3) -> NetworkTrace:
    """Trace one forward pass of one image in fp32, in evaluation mode.

    Parameters
    ----------
    config : ModelConfig.
    in_channels, classes : int. Number of input channels, and of classes with the background.
    size : tuple of int. Voxels of the image along (i, j, k).

    Raises
    ------
    ConfigError
        As :func:`core.models.build.build_model`.
    """
    outputs: dict[nn.Module, tuple[int, Size3]] = {}

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[module] = int(output.shape[1]), triple([int(n) for n in output.shape[2:]])

    with fake_tensors():
        network = build_fake_network(config, in_channels, classes).eval()
        stage_modules = network.stages()
        for stage in stage_modules:
            stage.module.register_forward_hook(keep)
        with torch.no_grad(), AllocationTracer() as tracer:
            network(torch.empty(1, in_channels, *size))
    stages = tuple(TracedStage(s.kind, s.level, *outputs[s.module], s.reads_image) for s in stage_modules)
    return NetworkTrace(count_parameters(network), tracer.operations / 1e9, stages, tuple(tracer.convolutions))
