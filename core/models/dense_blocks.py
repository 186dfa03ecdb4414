"""Parts of densely connected networks: pre-activated convolution, dense block, fully convolutional layers.

Each layer of a dense block reads the outputs of all layers before it, concatenated, and adds its own channels (their
number is the growth rate); the newest stand first. No convolution here has a bias: a normalisation follows each.

G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger: Densely Connected Convolutional Networks. CVPR 2017,
arXiv:1608.06993.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import activation_layer, norm_layer, normalise_and_activate

CONVOLUTIONS_PER_GROUP = 3  # Dolz et al.: three layers of each width
HEAD_FACTORS = (16 / 3, 8 / 3, 2)  # of the last growth rate: 400, 200 and 150 channels for 75 (Dolz et al.)


class NormActivation(nn.Sequential):
    """Normalisation, activation."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__(norm_layer(config.norm, channels), activation_layer(config.activation, channels))

    def forward(self, x: Tensor) -> Tensor:
        norm, activation = self
        return normalise_and_activate(x, norm, activation)


class PreActivatedConv(nn.Sequential):
    """Normalisation, activation, convolution. Odd kernels keep the size; kernel and stride 2 halve it."""

    def __init__(
        self, in_channels: int, out_channels: int, config: ModelConfig, kernel_size: int = 3, stride: int = 1
    ) -> None:
        padding = (kernel_size - 1) // 2
        super().__init__(
            NormActivation(in_channels, config),
            nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
        )


class DenseBlock(nn.Module):
    """Densely connected layers, which keep the size.

    Parameters
    ----------
    in_channels : int
    growth_rate : int. Channels of each layer.
    layers : sequence of Module. The n-th maps in_channels + n * growth_rate channels to growth_rate.

    Attributes
    ----------
    out_channels : int. Of all layers and the input.
    """

    def __init__(self, in_channels: int, growth_rate: int, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.out_channels = in_channels + growth_rate * len(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat((layer(x), x), dim=1)
        return x


def dense_block(in_channels: int, growth_rate: int, layers: int, config: ModelConfig) -> DenseBlock:
    """A dense block whose layers are one pre-activated 3x3x3 convolution each."""
    widths = [in_channels + n * growth_rate for n in range(layers)]
    return DenseBlock(in_channels, growth_rate, [PreActivatedConv(width, growth_rate, config) for width in widths])


class DensePath(nn.Module):
    """Three densely connected 3x3x3 convolutions of each width in ``config.channels``, all at full resolution.

    The first convolution reads the image, whose channels are not concatenated with later ones.

    Parameters
    ----------
    in_channels : int. Channels of the image.
    config : ModelConfig. Resolved.
    separate_modalities : bool. Whether the first convolution has kernels of its own for each channel of the image,
        ``config.channels[0]`` each, instead of kernels that read all channels.

    Attributes
    ----------
    groups : ModuleList. The layers of each width; their output holds the channels of all layers so far.
    out_channels : int
    """

    def __init__(self, in_channels: int, config: ModelConfig, separate_modalities: bool = False) -> None:
        super().__init__()
        paths = in_channels if separate_modalities else 1
        width = paths * config.channels[0]
        entry = nn.Conv3d(in_channels, width, kernel_size=3, padding=1, groups=paths, bias=False)
        self.groups = nn.ModuleList()
        for number, growth_rate in enumerate(config.channels):
            block = dense_block(width, growth_rate, CONVOLUTIONS_PER_GROUP - (1 if number == 0 else 0), config)
            self.groups.append(nn.Sequential(entry, block) if number == 0 else block)
            width = block.out_channels
        self.out_channels = width

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for group in self.groups:
            x = group(x)
        return x


class FullyConvolutionalLayers(nn.Sequential):
    """Three pre-activated 1x1x1 convolutions, normalisation and activation: what the classifier reads.

    Attributes
    ----------
    out_channels : int
    """

    def __init__(self, in_channels: int, config: ModelConfig) -> None:
        widths = [in_channels, *head_widths(config)]
        convolutions = [PreActivatedConv(widths[n], widths[n + 1], config, kernel_size=1) for n in range(3)]
        super().__init__(*convolutions, NormActivation(widths[-1], config))
        self.out_channels = widths[-1]


def head_widths(config: ModelConfig) -> list[int]:
    """Channels of the three 1x1x1 convolutions: 400, 200 and 150 for a last growth rate of 75, else in proportion."""
    return [max(1, round(factor * config.channels[-1])) for factor in HEAD_FACTORS]
