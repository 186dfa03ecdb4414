"""Building blocks of the networks: convolution unit, normalisation and activation by name, padding, initialisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.choices import Activation, NormLayer
from core.config import ModelConfig
from core.models import size_divisor
from core.models.architecture import StageKind
from core.types import Size3

LEAKY_SLOPE = 0.01
MAX_GROUPS = 8
CHANNELS_PER_GROUP = 4

Crop = Callable[[Tensor], Tensor]
WeightedLayer = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear
)


@dataclass(frozen=True)
class StageModule:
    """One stage of a network.

    Attributes
    ----------
    kind : "encoder", "bottleneck", "decoder" or "logits".
    level : int. Resolution of the output; 0 is full resolution, each further level halves it.
    module : nn.Module. Its output is the stage's.
    reads_image : bool. Whether the stage starts from the image instead of another stage's output.
    """

    kind: StageKind
    level: int
    module: nn.Module
    reads_image: bool = False


class NetworkOutput(NamedTuple):
    """What a network with extras returns in training mode.

    Attributes
    ----------
    logits : Tensor, shape (batch, classes, i, j, k).
    extras : dict of str to Tensor or tuple of Tensor. Further outputs that a loss uses, by name, documented by the
        network's class. "deep_supervision": the logits of the decoder levels 1, 2, ... in this order (level n halves
        the size n times; there may be none), on the grid of the image as it was padded inside;
        :func:`core.models.deep_supervision.at_each_level` gives each level's logits, cropped to the image, and the
        target on their grid, for images of any size. "image", "reconstruction", "mean" and "log_variance":
        :mod:`core.losses.vae`.
    """

    logits: Tensor
    extras: dict[str, Tensor | tuple[Tensor, ...]]


class SegmentationNetwork(nn.Module):
    """A network from an image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), of any size.

    A network with extras (deep supervision, a reconstruction) returns a :class:`NetworkOutput` in training mode, and
    the logits alone in evaluation mode.

    Parameters
    ----------
    config : ModelConfig. Resolved (:func:`core.models.resolve`).
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Attributes
    ----------
    config : ModelConfig. Building a network from it again gives the same one.
    in_channels, classes : int
    divisor : tuple of int. Multiple, along (i, j, k), to which images are padded inside.
    any_memory_format : bool. Whether the layers take channels-last tensors too; not asked of a user's own network.

    Raises
    ------
    ValueError
        If the number of channels or classes is 0.
    """

    any_memory_format = True

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__()
        if in_channels < 1 or classes < 1:
            raise ValueError(f"expected at least one channel and one class, got {in_channels} and {classes}")
        self.config = config
        self.in_channels = in_channels
        self.classes = classes
        self.divisor: Size3 = (size_divisor(config),) * 3

    def stages(self) -> list[StageModule]:
        """The stages between image and logits, in the order of computation; the last gives the logits.

        Each module is called once in a forward pass and returns one tensor (batch, channel, i, j, k).
        """
        raise NotImplementedError

    def layers_reading_image(self) -> list[WeightedLayer]:
        """The layers that read the image: the one that was registered first, where a network does not say more."""
        return weighted_layers(self)[:1]

    def layers_giving_outputs(self) -> list[WeightedLayer]:
        """The layers that give an output: the logits and, in training mode, the extras."""
        return weighted_layers(self.stages()[-1].module)[-1:] or weighted_layers(self)[-1:]

    def pad(self, image: Tensor) -> tuple[Tensor, Crop]:
        """Pad the image to a size that the levels can halve; see :func:`pad_to_divisor`.

        Raises
        ------
        ValueError
            If the image is not (batch, in_channels, i, j, k).
        """
        if image.ndim != 5 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"expected an image of shape (batch, {self.in_channels}, i, j, k), got {tuple(image.shape)}"
            )
        return pad_to_divisor(image, self.divisor)


def weighted_layers(module: nn.Module) -> list[WeightedLayer]:
    """The convolutions and linear layers of a module, itself included, in the order in which they were registered."""
    return [m for m in module.modules() if isinstance(m, WeightedLayer)]


def encoder_decoder_stages(
    encoder: Sequence[nn.Module],
    decoder: Iterable[nn.Module],
    classifier: nn.Module,
    from_image: Sequence[int] = (0,),
) -> list[StageModule]:
    """The stages of an encoder, full resolution first and its last the bottleneck, a decoder, deepest level first, and
    a classifier.

    Parameters
    ----------
    from_image : sequence of int. Levels of the encoder that start from the image.
    """
    deepest = len(encoder) - 1
    return [
        *(StageModule("encoder", level, module, level in from_image) for level, module in enumerate(encoder[:-1])),
        StageModule("bottleneck", deepest, encoder[-1], deepest in from_image),
        *(StageModule("decoder", deepest - 1 - n, module) for n, module in enumerate(decoder)),
        StageModule("logits", 0, classifier),
    ]


class ConvUnit(nn.Sequential):
    """Convolution, normalisation, activation. Odd kernels keep the size; stride 2 halves an even size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: NormLayer,
        activation: Activation | None,
        kernel_size: int | Size3 = 3,
        stride: int = 1,
    ) -> None:
        i, j, k = (kernel_size,) * 3 if isinstance(kernel_size, int) else kernel_size
        padding = ((i - 1) // 2, (j - 1) // 2, (k - 1) // 2)
        layers = [nn.Conv3d(in_channels, out_channels, (i, j, k), stride, padding), norm_layer(norm, out_channels)]
        if activation is not None:
            layers.append(activation_layer(activation, out_channels))
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the three in turn."""
        convolution, norm, *activation = self
        if not activation:
            return super().forward(x)
        return normalise_and_activate(convolution(x), norm, activation[0])


def normalise_and_activate(x: Tensor, norm: nn.Module, activation: nn.Module) -> Tensor:
    """The activation of the normalised tensor.

    torch's instance norm is batch norm over the channels of the whole batch, returned as a view. An in-place
    activation of a view copies its gradient twice, so it is applied before the view is taken.
    """
    if not isinstance(norm, nn.InstanceNorm3d) or isinstance(activation, nn.PReLU):
        return activation(norm(x))
    batch, channels = x.shape[:2]
    flat = F.batch_norm(
        x.reshape(1, batch * channels, *x.shape[2:]),
        None,
        None,
        norm.weight.repeat(batch),
        norm.bias.repeat(batch),
        training=True,
        eps=norm.eps,
    )
    return activation(flat).view_as(x)


class MaxPool2(nn.Module):
    """2x2x2 max pooling; the gradient of tied voxels goes to the first of them, in the order i, j, k.

    This is torch's operator, except under deterministic algorithms: the operator's CUDA backward is not deterministic,
    so the maximum is then taken over an axis that holds the eight voxels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Half of the size along each axis; an odd last voxel is left out."""
        if not torch.are_deterministic_algorithms_enabled():
            return F.max_pool3d(x, 2)
        i, j, k = (n // 2 for n in x.shape[2:])
        eight = x[..., : 2 * i, : 2 * j, : 2 * k].reshape(*x.shape[:2], i, 2, j, 2, k, 2)
        return _FirstMaximum.apply(eight.permute(0, 1, 2, 4, 6, 3, 5, 7).flatten(5))


class MeanPool2(nn.Module):
    """The mean over 2x2x2 voxels.

    This is torch's operator, except under deterministic algorithms: the operator has no deterministic CUDA backward.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Half of the size along each axis; an odd last voxel is left out."""
        if not torch.are_deterministic_algorithms_enabled():
            return F.avg_pool3d(x, 2)
        i, j, k = (n // 2 for n in x.shape[2:])
        eight = x[..., : 2 * i, : 2 * j, : 2 * k].reshape(*x.shape[:2], i, 2, j, 2, k, 2)
        return eight.mean(dim=(3, 5, 7), dtype=torch.float32).to(x.dtype)


class _FirstMaximum(torch.autograd.Function):
    """The maximum over the last axis; its gradient goes to the first voxel that has it, by comparison (no scatter)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        first = x.argmax(dim=-1)  # the first of tied entries; max() guarantees none in particular
        maximum = x.gather(-1, first[..., None])[..., 0]
        ctx.save_for_backward(first)
        ctx.choices = x.shape[-1]
        return maximum

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (first,) = ctx.saved_tensors
        indices = torch.arange(ctx.choices, device=gradient.device)
        return torch.where(first[..., None] == indices, gradient[..., None], 0)


def norm_layer(norm: NormLayer, channels: int) -> nn.Module:
    """A normalisation layer with learned scale and shift (instance norm too)."""
    layers: dict[NormLayer, Callable[[], nn.Module]] = {
        "batch": lambda: nn.BatchNorm3d(channels),
        "instance": lambda: nn.InstanceNorm3d(channels, affine=True),
        "group": lambda: nn.GroupNorm(group_count(channels), channels),
    }
    return layers[norm]()


def group_count(channels: int) -> int:
    """Number of groups for group norm: the most, up to 8, that divide the channels with at least four in each, or 1."""
    fitting = (g for g in range(2, MAX_GROUPS + 1) if channels % g == 0 and channels // g >= CHANNELS_PER_GROUP)
    return max(fitting, default=1)


def activation_layer(activation: Activation, channels: int) -> nn.Module:
    """An activation; PReLU learns one slope per channel, LeakyReLU has slope 0.01."""
    layers: dict[Activation, Callable[[], nn.Module]] = {
        "relu": lambda: nn.ReLU(inplace=True),
        "leaky_relu": lambda: nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
        "prelu": lambda: nn.PReLU(channels),
    }
    return layers[activation]()


def pad_to_divisor(image: Tensor, divisor: Size3) -> tuple[Tensor, Crop]:
    """Pad (batch, channel, i, j, k) so that ``divisor`` divides its size, and return the crop that undoes it.

    Border voxels are replicated on both sides alike (the odd one at the end), so that no edge appears and statistics of
    normalisation layers change least. Where the deepest level would be a single voxel, the longest axis gets a
    second one: normalisation over one value is undefined in training and constant in prediction. An image whose size
    fits is returned unchanged.

    Raises
    ------
    ValueError
        If the image has no voxels.
    """
    shape = tuple(image.shape[2:])
    if min(shape) < 1:
        raise ValueError(f"expected at least one voxel along each axis, got {shape}")
    deepest = [-(-size // d) for size, d in zip(shape, divisor, strict=True)]
    if max(deepest) == 1:
        deepest[shape.index(max(shape))] = 2
    extra = [n * d - size for n, d, size in zip(deepest, divisor, shape, strict=True)]
    if not any(extra):
        return image, lambda x: x
    before = [e // 2 for e in extra]
    (i, j, k), (extra_i, extra_j, extra_k) = before, extra
    padded = F.pad(image, (k, extra_k - k, j, extra_j - j, i, extra_i - i), mode="replicate")
    inside = (..., *(slice(b, b + size) for b, size in zip(before, shape, strict=True)))
    return padded, lambda x: x[inside]


@torch.no_grad()
def initialise(network: nn.Module, classifier: nn.Conv3d, activation: Activation) -> None:
    """Give all convolutions fresh weights, in place.

    Convolutions: He et al. 2015, normal, for the activation that follows. Transposed 2x2x2 convolutions of stride 2
    (every output voxel sees one input voxel, no activation in between): normal with variance 1 / in_channels. The
    classifier: normal with variance 1 / in_channels, so that the first logits have about unit variance and the first
    probabilities are far from 0 and 1. Biases start at 0, normalisation at scale 1 and shift 0.
    """
    slope = {"relu": 0.0, "leaky_relu": LEAKY_SLOPE, "prelu": 0.25}[activation]
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose3d) or module is classifier:
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_channels))
        elif isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, a=slope, nonlinearity="leaky_relu")
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)) and module.bias is not None:
            nn.init.zeros_(module.bias)
