"""Implementations whose training steps are compared: network and step of Segmentarium, nnU-Net and MONAI.

Segmentarium's U-Net, nnU-Net's PlainConvUNet and MONAI's DynUNet have one architecture and the same channels: two 3x3x3
convolutions at each level, strided downsampling, 2x2x2 transposed convolutions, instance norm, LeakyReLU. They do the
same operations; the training steps differ.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from core.bench.peers import import_peer
from core.choices import Acceleration
from core.compute.precision import autocast, resolve_precision
from core.config import LossConfig, ModelConfig, OptimConfig
from core.losses.build import build_loss
from core.losses.dice_ce import dice_ce_loss
from core.models.build import build_model
from core.presets import preset
from core.training.acceleration import accelerate
from core.training.step import TrainingStep
from core.types import Size3

Step = Callable[[Tensor, Tensor], None]

IN_CHANNELS, CLASSES = 2, 4
DICE_CE = LossConfig(loss="dice_ce")
MIN_SIDE = 4  # voxels at the deepest level, as nnU-Net plans it
NNUNET_CLIP_NORM = 12.0


@dataclass(frozen=True)
class Implementation:
    """A network and its training step.

    Attributes
    ----------
    name, precision, note : str. Cells of its row.
    build_network : callable. Builds the network on torch's default device; raises
        :class:`~core.bench.peers.PeerMissingError`.
    make_step : callable. Makes the training step of a network. The step takes an image, float32, shape
        (batch, channel, i, j, k), and a label map, uint8, shape (batch, i, j, k), both on the device.
    cudnn_benchmark : bool. Run the step with cuDNN's benchmark mode, as the scripts of the other libraries do;
        Segmentarium's step sets it itself.
    ours : bool. Segmentarium's; it runs with the allocator settings of the trainer.
    required : bool. Raise its errors instead of reporting them in its row.
    messages : list of str. Filled by the step; reported in the row.
    """

    name: str
    precision: str
    build_network: Callable[[], nn.Module]
    make_step: Callable[[nn.Module], Step]
    note: str = ""
    cudnn_benchmark: bool = False
    ours: bool = True
    required: bool = True
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Selection:
    """Implementations to compare with the first one, Segmentarium's.

    Attributes
    ----------
    peers : bool. nnU-Net and MONAI.
    same_precision : bool. These also in Segmentarium's precision.
    article : bool. The network of preset ``article``.
    accelerations : sequence of str. Segmentarium's step in each of these accelerations.
    """

    peers: bool = False
    same_precision: bool = False
    article: bool = False
    accelerations: Sequence[Acceleration] = ()


def max_levels(size: Size3, limit: int) -> int:
    """Number of levels a sub-volume allows, up to ``limit``: even halving, four voxels per side at the deepest."""
    levels = 1
    while levels < limit and all(n % 2**levels == 0 and n // 2**levels >= MIN_SIDE for n in size):
        levels += 1
    return levels


def plain_unet(channels: tuple[int, ...]) -> ModelConfig:
    """Configuration of Segmentarium's U-Net with the architecture of nnU-Net's PlainConvUNet."""
    return ModelConfig(
        channels=channels, norm="instance", activation="leaky_relu", downsampling="stride", widening="after"
    )


def select_implementations(
    channels: tuple[int, ...], device: torch.device, optim: OptimConfig, selection: Selection
) -> list[Implementation]:
    """The selected implementations, Segmentarium's first.

    Parameters
    ----------
    channels : tuple of int. Channels of each level, full resolution first; the network of preset ``article`` has its
        own.
    device : torch.device.
    optim : OptimConfig. Optimizer of Segmentarium.
    selection : Selection.
    """
    precision = resolve_precision("auto", device)
    model = plain_unet(channels)
    selected = [segmentarium(model, optim, precision, "ours", "auto")]
    for acceleration in selection.accelerations:
        accelerated = segmentarium(model, optim, precision, f"ours, {acceleration}", acceleration)
        selected.append(replace(accelerated, required=False))
    if selection.peers:
        default = "fp16" if device.type == "cuda" else "fp32"
        precisions = [default, *({precision} - {default} if selection.same_precision else ())]
        selected += [_nnunet(channels, device, p) for p in precisions]
        selected += [_monai_dynunet(channels, p) for p in precisions]
    if selection.article:
        article = preset("article")
        name = "the article's (preset article)"
        selected.append(segmentarium(article.model, article.optim, article.run.precision, name))
    return selected


def segmentarium(
    model: ModelConfig, optim: OptimConfig, precision: str, name: str, acceleration: Acceleration = "auto"
) -> Implementation:
    """A network of Segmentarium with the trainer's step."""
    messages: list[str] = []
    return Implementation(
        name,
        precision,
        build_network=lambda: build_model(model, IN_CHANNELS, CLASSES),
        make_step=lambda network: segmentarium_step(network, optim, precision, acceleration, messages.append),
        note=optim.optimizer + (", EMA" if optim.ema > 0 else ""),
        messages=messages,
    )


def segmentarium_step(
    network: nn.Module,
    optim: OptimConfig,
    precision: str,
    acceleration: Acceleration,
    on_message: Callable[[str], None] = lambda message: None,
    loss: LossConfig = DICE_CE,
) -> Step:
    """The trainer's step."""
    training_step = TrainingStep(network, build_loss(loss), optim, precision)
    accelerate(training_step, acceleration, on_message)

    def step(image: Tensor, label: Tensor) -> None:
        training_step([(image, label)], optim.learning_rate, training_step.steps)

    return step


def peer_step(network: nn.Module, precision: str, *, compiled: bool, clip_norm: float) -> Step:
    """The step of nnU-Net, and of MONAI's tutorial on DynUNet: SGD with Nesterov momentum, in fp16 with a gradient
    scaler."""
    device = next(network.parameters()).device
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    forward: Callable[[Tensor], Tensor] = torch.compile(network) if compiled else network
    criterion: Callable[[Tensor, Tensor], Tensor] = torch.compile(dice_ce_loss) if compiled else dice_ce_loss

    def step(image: Tensor, label: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with _autocast(device, precision):
            loss = criterion(forward(image), label)
        scaler.scale(loss).backward()
        if clip_norm > 0:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        scaler.step(optimizer)
        scaler.update()

    return step


def random_batch(batch: int, size: Size3, device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise: image float32 (batch, channel, i, j, k) and label map uint8 (batch, i, j, k). The time of a step does not
    depend on the values."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, IN_CHANNELS, *size, generator=generator)
    label = torch.randint(0, CLASSES, (batch, *size), generator=generator, dtype=torch.uint8)
    return image.to(device), label.to(device)


def count_gflop(implementation: Implementation, batch: int, size: Size3) -> float:
    """Operations of forward and backward pass of a step in 10^9, counted on the meta device.

    Raises
    ------
    PeerMissingError
        If the package of the network is not installed.
    """
    with torch.device("meta"):
        network = implementation.build_network()
        image, label = torch.empty(batch, IN_CHANNELS, *size), torch.empty(batch, *size, dtype=torch.uint8)
    counter = FlopCounterMode(display=False)
    with counter:
        dice_ce_loss(network(image), label).backward()
    return counter.get_total_flops() / 1e9


def _nnunet(channels: tuple[int, ...], device: torch.device, precision: str) -> Implementation:
    compiled = device.type == "cuda"

    def build() -> nn.Module:
        levels = len(channels)
        network: nn.Module = import_peer("dynamic_network_architectures.architectures.unet").PlainConvUNet(
            input_channels=IN_CHANNELS,
            n_stages=levels,
            features_per_stage=list(channels),
            conv_op=nn.Conv3d,
            kernel_sizes=3,
            strides=[1] + [2] * (levels - 1),
            n_conv_per_stage=2,
            num_classes=CLASSES,
            n_conv_per_stage_decoder=2,
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=False,
        )
        return network

    return Implementation(
        "nnU-Net PlainConvUNet",
        precision,
        build_network=build,
        make_step=lambda network: peer_step(network, precision, compiled=compiled, clip_norm=NNUNET_CLIP_NORM),
        note="sgd, nesterov" + (", torch.compile" if compiled else ""),
        cudnn_benchmark=True,
        ours=False,
        required=False,
    )


def _monai_dynunet(channels: tuple[int, ...], precision: str) -> Implementation:
    def build() -> nn.Module:
        levels = len(channels)
        network: nn.Module = import_peer("monai.networks.nets").DynUNet(
            spatial_dims=3,
            in_channels=IN_CHANNELS,
            out_channels=CLASSES,
            kernel_size=[3] * levels,
            strides=[1] + [2] * (levels - 1),
            upsample_kernel_size=[2] * (levels - 1),
            filters=list(channels),
            norm_name=("INSTANCE", {"affine": True}),
            act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        )
        return network

    return Implementation(
        "MONAI DynUNet",
        precision,
        build_network=build,
        make_step=lambda network: peer_step(network, precision, compiled=False, clip_norm=0),
        note="sgd, nesterov",
        cudnn_benchmark=True,
        ours=False,
        required=False,
    )


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    if precision == "fp16":
        return torch.autocast(device.type, dtype=torch.float16)
    return autocast(device, precision)
