"""Estimates the memory of a training step and of a prediction, without torch.

The network's description is run on an :class:`core.models.allocation_simulator.AllocationSimulator`; its peak is the
estimate. The tests compare it with the growth of resident memory on a CPU, in a process started as trainers and the
pages' jobs are (:func:`core.compute.allocator.malloc_environment`): a training step takes within 20 % of it, a
prediction within 30 %, mostly less; with another heap a prediction took up to 28 % more. CUDA was not measured:
the count is the same, the rules of mixed precision are CUDA's, and cuDNN is assumed to need the copies that oneDNN
makes in fp32. Not counted: the CUDA context, memory reserved by a captured graph, the deterministic form of pooling,
augmentation, and earlier allocations of the process.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.choices import NormLayer
from core.config import LossConfig, ModelConfig, OptimConfig
from core.models import architecture
from core.models.allocation_simulator import FP32, AllocationSimulator, SimulatedTensor
from core.models.cost import network_cost, padded_size
from core.types import Size3

OPTIMIZER_STATE_BYTES = {"sgd": 0, "adam": 8, "adamw": 8, "rmsprop": 4, "muon": 4}  # per parameter
MUON_COPIES = 4  # of all kernels, while they are orthogonalised


@dataclass(frozen=True)
class PassShape:
    """What passes through a network at once, and where.

    Attributes
    ----------
    in_channels : int. Number of modalities.
    classes : int. Number of classes, the background included.
    size : tuple of int. Voxels of a sub-volume or tile along (i, j, k).
    batch : int. Sub-volumes or tiles in one forward pass.
    precision : str. "fp32" or "bf16" (mixed precision).
    device : str. "cpu" or "cuda".
    """

    in_channels: int
    classes: int
    size: Size3
    batch: int = 1
    precision: str = "bf16"
    device: str = "cpu"


def training_bytes(model: ModelConfig, loss: LossConfig, optim: OptimConfig, shape: PassShape) -> int:
    """Peak memory in bytes of a training step on the device, with weights and optimizer.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    parameters = network_cost(model, shape.in_channels, shape.classes, shape.size).parameters
    has_momentum = optim.optimizer in ("sgd", "rmsprop") and optim.momentum > 0
    state = OPTIMIZER_STATE_BYTES[optim.optimizer] + (FP32 if has_momentum else 0)
    simulator = AllocationSimulator(shape.size, shape.batch, shape.precision, shape.device, training=True)
    for _ in range(min(optim.accumulate, 2)):  # from the second backward pass on, weights have gradients already
        simulator.run_loss_and_backward(_run_forward(simulator, model, shape), loss.loss)
    if optim.optimizer == "muon":
        simulator.memory.allocate_temporarily(*[FP32 * parameters] * MUON_COPIES)
    return parameters * (FP32 + state + (FP32 if optim.ema else 0)) + simulator.peak_bytes()


def inference_bytes(model: ModelConfig, shape: PassShape) -> int:
    """Peak memory in bytes of a forward pass without gradients, without the weights.

    Only skip connections and the tensors around the widest convolution live at once. The image and the logits in fp32
    are counted.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    channels_last = predicts_channels_last(model.norm, shape.precision, shape.device)
    simulator = AllocationSimulator(
        shape.size, shape.batch, shape.precision, shape.device, training=False, channels_last=channels_last
    )
    simulator.cast(_run_forward(simulator, model, shape), FP32)
    return simulator.peak_bytes()


def predicts_channels_last(norm: NormLayer, precision: str, device: str) -> bool:
    """Whether inference stores the channels of a voxel side by side: for bf16 on a CPU, unless instance norm would
    reorder them."""
    return precision != "fp32" and device == "cpu" and norm != "instance"


def _run_forward(simulator: AllocationSimulator, model: ModelConfig, shape: PassShape) -> SimulatedTensor:
    """The logits of the configured network."""
    entry = architecture(model.model)
    config = entry.resolve(model)
    padded = padded_size(shape.size, entry.divisor(model))
    return simulator.run_forward(
        shape.in_channels, padded, lambda image: entry.forward(simulator, config, image, shape.classes)
    )
