"""The networks whose training steps are compared: ours, nnU-Net's, MONAI's and the article's, each with its own step.

Ours, nnU-Net's plain U-Net and MONAI's DynUNet are one architecture at the same widths: two 3x3x3 convolutions at each
level, strided down-sampling, 2x2x2 transposed convolutions, instance norm, LeakyReLU. They do the same operations; what
differs is how they are driven.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from core.bench.peers import peer
from core.compute.precision import autocast, resolve_precision
from core.config import Acceleration, ModelConfig, OptimConfig
from core.models import build_model
from core.presets import preset
from core.training.acceleration import Tell, accelerate
from core.training.losses import Loss, dice_ce_loss
from core.training.step import TrainingStep
from core.types import Size3

Step = Callable[[Tensor, Tensor], None]

IN_CHANNELS, CLASSES = 2, 4
LEAST_EDGE = 4  # voxels at the deepest level, as nnU-Net plans it
NNUNET_CLIP_NORM = 12.0


@dataclass(frozen=True)
class Contender:
    """A network and the step that trains it.

    Attributes
    ----------
    name, precision, note : as the table says it.
    build : makes the network on torch's default device; raises :class:`~core.bench.peers.PeerMissingError`.
    step : makes the training step of a network: it takes an image, float32 (batch, channel, i, j, k), and a label,
        uint8 (batch, i, j, k), both on the device.
    tries_kernels : let cuDNN try which kernels are fastest, as the peers' own scripts do; our step does by itself.
    ours : it runs as in our trainer.
    must_run : an error in it is an error of the program; else it is told in the row.
    told : what its steps had to say.
    """

    name: str
    precision: str
    build: Callable[[], nn.Module]
    step: Callable[[nn.Module], Step]
    note: str = ""
    tries_kernels: bool = False
    ours: bool = True
    must_run: bool = True
    told: list[str] = field(default_factory=list)


def levels_for(size: Size3, most: int) -> int:
    """How many resolutions a sub-volume has room for, up to ``most``: halved evenly, four voxels a side left."""
    levels = 1
    while levels < most and all(n % 2**levels == 0 and n // 2**levels >= LEAST_EDGE for n in size):
        levels += 1
    return levels


def plain_unet(channels: tuple[int, ...]) -> ModelConfig:
    """Ours in the shape of nnU-Net's plain U-Net."""
    return ModelConfig(
        channels=channels, norm="instance", activation="leaky_relu", downsampling="stride", widening="after"
    )


def contenders(
    channels: tuple[int, ...],
    device: torch.device,
    optim: OptimConfig,
    *,
    peers: bool,
    article: bool,
    alike: bool,
    accelerations: Sequence[Acceleration] = (),
) -> list[Contender]:
    """All that take part, ours first.

    Parameters
    ----------
    channels : at each level, full resolution first; not of the article's, which has its own.
    device : that trains.
    optim : how ours is optimised.
    peers, article : whether they take part.
    alike : the peers once more, in the precision that ours has.
    accelerations : ours once more, its step launched in each of these ways.
    """
    precision = resolve_precision("auto", device)
    found = [ours(plain_unet(channels), optim, precision, "ours", "auto")]
    for how in accelerations:
        found.append(replace(ours(plain_unet(channels), optim, precision, f"ours, {how}", how), must_run=False))
    if peers:
        usual = "fp16" if device.type == "cuda" else "fp32"
        every = [usual, *({precision} - {usual} if alike else ())]
        found += [_nnunet(channels, device, each) for each in every]
        found += [_dynunet(channels, device, each) for each in every]
    if article:
        recipe = preset("article")
        found.append(ours(recipe.model, recipe.optim, recipe.run.precision, "the article's (preset article)"))
    return found


def ours(
    model: ModelConfig, optim: OptimConfig, precision: str, name: str, acceleration: Acceleration = "auto"
) -> Contender:
    """A network of ours with our step."""
    told: list[str] = []
    return Contender(
        name,
        precision,
        lambda: build_model(model, IN_CHANNELS, CLASSES),
        lambda network: our_step(network, optim, precision, acceleration, told.append),
        optim.optimizer + (", running average" if optim.ema > 0 else ""),
        told=told,
    )


def our_step(
    network: nn.Module, optim: OptimConfig, precision: str, acceleration: Acceleration, tell: Tell = lambda words: None
) -> Step:
    """The training step of ours: the trainer's own, launched in one of its ways."""
    training = TrainingStep(network, dice_ce_loss, optim, precision)
    accelerate(training, acceleration, tell)

    def step(image: Tensor, label: Tensor) -> None:
        training([(image, label)], optim.learning_rate, training.steps)

    return step


def peer_step(network: nn.Module, precision: str, *, compiled: bool, clip_norm: float) -> Step:
    """The training step of nnU-Net and of MONAI's tutorial on its DynUNet: SGD with Nesterov momentum, in fp16 with a
    gradient scaler."""
    device = next(network.parameters()).device
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    forward: Callable[[Tensor], Tensor] = torch.compile(network) if compiled else network
    criterion: Loss = torch.compile(dice_ce_loss) if compiled else dice_ce_loss

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
    """Noise: image float32 (batch, channel, i, j, k) and label uint8 (batch, i, j, k); no step's time depends on it."""
    chance = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, IN_CHANNELS, *size, generator=chance)
    label = torch.randint(0, CLASSES, (batch, *size), generator=chance, dtype=torch.uint8)
    return image.to(device), label.to(device)


def gflop_of(contender: Contender, batch: int, size: Size3) -> float:
    """The operations of forward and backward pass of a step, in 10^9; counted without computing anything.

    Raises
    ------
    PeerMissingError
        If the network's package is not installed.
    """
    with torch.device("meta"):
        network = contender.build()
        image, label = torch.empty(batch, IN_CHANNELS, *size), torch.empty(batch, *size, dtype=torch.uint8)
    counter = FlopCounterMode(display=False)
    with counter:
        dice_ce_loss(network(image), label).backward()
    return counter.get_total_flops() / 1e9


def _nnunet(channels: tuple[int, ...], device: torch.device, precision: str) -> Contender:
    compiled = device.type == "cuda"

    def build() -> nn.Module:
        architectures = peer("dynamic_network_architectures.architectures.unet")
        levels = len(channels)
        network: nn.Module = architectures.PlainConvUNet(
            IN_CHANNELS, levels, list(channels), nn.Conv3d, 3, [1] + [2] * (levels - 1), 2, CLASSES, 2, conv_bias=True,
            norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True}, deep_supervision=False,
        )  # fmt: skip
        return network

    return Contender(
        "nnU-Net PlainConvUNet",
        precision,
        build,
        lambda network: peer_step(network, precision, compiled=compiled, clip_norm=NNUNET_CLIP_NORM),
        "sgd, nesterov" + (", torch.compile" if compiled else ""),
        tries_kernels=True,
        ours=False,
        must_run=False,
    )


def _dynunet(channels: tuple[int, ...], device: torch.device, precision: str) -> Contender:
    def build() -> nn.Module:
        levels = len(channels)
        network: nn.Module = peer("monai.networks.nets").DynUNet(
            3, IN_CHANNELS, CLASSES, [3] * levels, [1] + [2] * (levels - 1), [2] * (levels - 1), filters=list(channels),
            norm_name=("INSTANCE", {"affine": True}),
            act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        )  # fmt: skip
        return network

    return Contender(
        "MONAI DynUNet",
        precision,
        build,
        lambda network: peer_step(network, precision, compiled=False, clip_norm=0),
        "sgd, nesterov",
        tries_kernels=True,
        ours=False,
        must_run=False,
    )


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    if precision == "fp16":
        return torch.autocast(device.type, dtype=torch.float16)
    return autocast(device, precision)
