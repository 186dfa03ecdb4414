"""The residual-encoder U-Net of nnU-Net v2 (its ResEnc presets), Isensee et al. 2024.

    image -> stem 3x3x3 -> E0 --------------------------> concat -> D0 -> 1x1x1 -> logits
                           | stride 2                       ^ up
                           E1 ---------------------> concat -> D1
                           | stride 2                  ^ up
                           ...                          ...
                           E5 (bottleneck)  -----------'

    E0 to E5: 1, 3, 4, 6, 6, 6 residual blocks           D: one 3x3x3 convolution each

    residual block:  x -> 3x3x3 (stride s) - IN - LeakyReLU - 3x3x3 - IN -> + -> LeakyReLU
                     '-> mean over 2x2x2 if s = 2 - 1x1x1 and IN if the channels change -'

Six resolutions with 32, 64, 128, 256, 320, 320 channels, instance normalisation, LeakyReLU, 2x2x2 transposed
convolutions. All convolutions have a bias, but the 1x1x1 of the shortcuts. The down-sampling with an average on the
shortcut is ResNet-D (He et al. 2019, figure 2). With one modality and two classes that is 102,348,226 parameters, those
of ``ResidualEncoderUNet`` in dynamic_network_architectures, nnU-Net's own library, but its classifiers of inner levels.

Where this differs from nnU-Net: strides are 2 along every axis, and the number of levels is that of ``channels``
(nnU-Net plans both for the voxel size and the sub-volume); any size works; deep supervision is an option.

F. Isensee, T. Wald, C. Ulrich, M. Baumgartner, S. Roy, K. Maier-Hein, P. F. Jaeger: nnU-Net Revisited: A Call for
Rigorous Validation in 3D Medical Image Segmentation. MICCAI 2024, arXiv:2404.09556.
T. He et al.: Bag of Tricks for Image Classification with Convolutional Neural Networks. CVPR 2019, arXiv:1812.01187.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import (
    ConvUnit,
    MeanPool2,
    NetworkOutput,
    SegmentationNetwork,
    StageModule,
    WeightedLayer,
    activation_layer,
    encoder_decoder_stages,
    initialise,
    norm_layer,
    weighted_layers,
)
from core.models.deep_supervision import DeepSupervision

BLOCKS = (1, 3, 4, 6)  # residual blocks of each encoder level, full resolution first; the last holds for all below


class ResEncUNet(SegmentationNetwork):
    """A residual-encoder U-Net: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config : ModelConfig. Its options mean here:

        - ``channels``: channels at each resolution, full resolution first; their number is the depth.
        - ``deep_supervision``: in training, the logits of inner decoder levels as the extra "deep_supervision"
          (:mod:`core.models.deep_supervision`).
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Notes
    -----
    Images are padded inside to a multiple of ``divisor`` = 2^(levels - 1).
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        channels = self.config.channels
        self.stem = _unit(in_channels, channels[0], self.config)
        self.encoder = nn.ModuleList()
        before = channels[0]
        for level, width in enumerate(channels):
            blocks = BLOCKS[min(level, len(BLOCKS) - 1)]
            self.encoder.append(_encoder_level(before, width, blocks, 2 if level else 1, self.config))
            before = width
        self.decoder = nn.ModuleList()
        for below, width in reversed(list(zip(channels[1:], channels[:-1], strict=True))):
            self.decoder.append(DecoderLevel(below, width, self.config))
        self.classifier = nn.Conv3d(channels[0], classes, kernel_size=1)
        initialise(self, self.classifier, self.config.activation)
        self.auxiliary = DeepSupervision(self.config.deep_supervision, channels[:-1], classes)

    def forward(self, image: Tensor) -> Tensor | NetworkOutput:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        image, crop = self.pad(image)
        x, skips = self.stem(image), []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        x = skips.pop()
        auxiliary: list[Tensor] = []
        for decode in self.decoder:
            x = decode(x, skips.pop())
            auxiliary = [*self.auxiliary(x, len(skips)), *auxiliary]
        return self.auxiliary.output(crop(self.classifier(x)), auxiliary)

    def stages(self) -> list[StageModule]:
        return encoder_decoder_stages(list(self.encoder), self.decoder, self.classifier)

    def layers_giving_outputs(self) -> list[WeightedLayer]:
        return [*super().layers_giving_outputs(), *weighted_layers(self.auxiliary)]


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions, and a shortcut around them (ResNet-D); ``stride`` 2 halves the size."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, config: ModelConfig) -> None:
        super().__init__()
        self.first = ConvUnit(in_channels, out_channels, config.norm, config.activation, stride=stride)
        self.second = ConvUnit(out_channels, out_channels, config.norm, None)
        shortcut: list[nn.Module] = [] if stride == 1 else [MeanPool2()]
        if in_channels != out_channels:
            shortcut.append(nn.Conv3d(in_channels, out_channels, kernel_size=1, bias=False))
            shortcut.append(norm_layer(config.norm, out_channels))
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = activation_layer(config.activation, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.second(self.first(x)) + self.shortcut(x))


class DecoderLevel(nn.Module):
    """Double the size, concatenate the skip connection, then one convolution."""

    def __init__(self, in_channels: int, skip_channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(in_channels, skip_channels, kernel_size=2, stride=2)
        self.convolution = _unit(2 * skip_channels, skip_channels, config)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.convolution(torch.cat((self.up(x), skip), dim=1))


def _encoder_level(in_channels: int, out_channels: int, blocks: int, stride: int, config: ModelConfig) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels, stride, config)
    return nn.Sequential(first, *(ResidualBlock(out_channels, out_channels, 1, config) for _ in range(blocks - 1)))


def _unit(in_channels: int, out_channels: int, config: ModelConfig) -> ConvUnit:
    return ConvUnit(in_channels, out_channels, config.norm, config.activation)
