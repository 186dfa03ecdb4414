"""Operations and memory of a training step of a configuration, by tracing two of its steps on tensors without values.

The step is the trainer's own (:class:`core.training.step.TrainingStep`): mixed precision, loss, backward pass,
optimizer and moving average of the weights. The tests compare the estimated memory with the growth of resident memory
on a CPU, in a process started as trainers and the pages' jobs are (:func:`core.compute.allocator.malloc_environment`):
within 20 %. CUDA's memory was not measured. Not counted: the CUDA context, memory reserved by a captured graph,
augmentation, and earlier allocations of the process.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from core.compute.precision import DTYPES
from core.compute.tracing import HEAP_PER_BYTE, AllocationTracer, CudaAutocast, fake_tensors, heap_bytes
from core.config import LossConfig, ModelConfig, OptimConfig, TrainConfig
from core.losses.build import LossFacts, build_loss
from core.models import MODELS
from core.models.network_trace import build_fake_network, count_parameters
from core.training.plan import StepCost
from core.training.step import TrainingStep

STEPS = 2  # the first one allocates the state of the optimizer
MAX_ACCUMULATED = 2  # batches of a traced step: from the second backward pass on, weights have gradients already
MAX_CACHED = 256  # traced steps


@dataclass(frozen=True)
class TracedOutputs:
    """What the loss of a traced step compares.

    Attributes
    ----------
    channels : int. Output channels of the network: classes with the background, or regions.
    ignore : bool. Whether label maps have an ignore label.
    overlapping : bool. Whether the channels are regions, which may overlap.
    """

    channels: int
    ignore: bool = False
    overlapping: bool = False

    @property
    def regions(self) -> tuple[tuple[int, ...], ...]:
        """Classes of each region, one of each: the number of classes in a region takes no memory."""
        return tuple((n,) for n in range(1, self.channels + 1)) if self.overlapping else ()


@dataclass(frozen=True)
class _StepParameters:
    """Parameters of :func:`trace_training_step`, and torch's deterministic mode."""

    model: ModelConfig
    loss: LossConfig
    optim: OptimConfig
    precision: str
    batch_size: int
    sub_volume: tuple[int, ...]
    in_channels: int
    outputs: TracedOutputs
    device: str
    deterministic: bool


class _TracedStep(TrainingStep):
    """The trainer's step, with the mixed-precision rules of the traced device."""

    def __init__(self, model: nn.Module, parameters: _StepParameters) -> None:
        outputs = parameters.outputs
        loss = build_loss(parameters.loss, outputs.ignore, LossFacts(regions=outputs.regions))
        super().__init__(model, loss, parameters.optim, parameters.precision)
        self.traced_device = parameters.device
        self.scaler = torch.amp.GradScaler(enabled=False)  # takes no memory worth counting, and needs values

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.traced_device == "cpu" or self.precision == "fp32":
            return super().autocast()
        return CudaAutocast(DTYPES[self.precision])


def trace_training_step(
    config: TrainConfig, in_channels: int, outputs: int | TracedOutputs, device: str = "cpu"
) -> StepCost:
    """Trace a training step.

    Parameters
    ----------
    config : TrainConfig. With the sub-volume size resolved. A precision of "auto" is taken as bf16.
    in_channels : int. Number of input channels.
    outputs : int or TracedOutputs. Output channels of the network; a number: that of classes, with the background.
    device : str. "cpu" or "cuda".

    Raises
    ------
    ConfigError
        If the network cannot be built.
    """
    precision = "bf16" if config.run.precision == "auto" else config.run.precision
    sampling = config.sampling
    parameters = _StepParameters(
        config.model, config.loss, config.optim, precision, sampling.batch_size, sampling.sub_volume,
        in_channels, outputs if isinstance(outputs, TracedOutputs) else TracedOutputs(outputs), device,
        torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip
    # The code of a user's own network may change while the process lives; that of the others may not.
    return _cached_trace(parameters) if config.model.model in MODELS else _trace(parameters)


def _trace(parameters: _StepParameters) -> StepCost:
    batch, size, device = parameters.batch_size, parameters.sub_volume, parameters.device
    forward: list[int] = []
    with fake_tensors():
        network = build_fake_network(parameters.model, parameters.in_channels, parameters.outputs.channels)
        with AllocationTracer(device) as tracer:
            tracer.follow([*network.parameters(), *network.buffers()])
            step = _TracedStep(network, parameters)
            network.register_forward_pre_hook(lambda *_: forward.append(-tracer.operations))
            network.register_forward_hook(lambda *_: forward.append(tracer.operations))
            for number in range(STEPS):
                tracer.operations = 0
                forward.clear()
                accumulated = min(parameters.optim.accumulate, MAX_ACCUMULATED)
                batches = [_empty_batch(batch, parameters.in_channels, size) for _ in range(accumulated)]
                step(batches, parameters.optim.learning_rate, number)
                sub_volumes = batch * len(batches)
                del batches
    per_byte = HEAP_PER_BYTE[parameters.precision]
    peak = tracer.peak if device != "cpu" else heap_bytes(tracer.peak, tracer.used, per_byte)
    return StepCost(
        parameters=count_parameters(network),
        forward_gflop=sum(forward) / 1e9 / sub_volumes,
        training_gflop=tracer.operations / 1e9 / sub_volumes,
        step_bytes=peak,
    )


_cached_trace = lru_cache(MAX_CACHED)(_trace)


def _empty_batch(batch: int, in_channels: int, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """An image (batch, channel, i, j, k) and a label map (batch, i, j, k)."""
    return torch.empty(batch, in_channels, *size), torch.empty(batch, *size, dtype=torch.uint8)
