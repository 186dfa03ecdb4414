"""The V-Net of Milletari et al. 2016: residual stages of 5x5x5 convolutions.

Five resolutions with 16 to 256 channels and 1, 2, 3, 3, 3 convolutions each; the input of a stage is added to the
output of its last convolution. Sizes are halved and doubled by 2x2x2 convolutions of stride 2; a decoder stage works on
the skip connection concatenated with as many channels from below. PReLU throughout, a final 1x1x1 convolution.

Where this differs from the paper: a normalisation layer follows each 5x5x5, down and up convolution (the paper has
none, and trains badly without); an image of several channels reaches the first residual sum through a 1x1x1 convolution
(a single channel is broadcast, as in the paper); one logit per class instead of two; any size works.

The numbers of convolutions are those with which a voxel sees what table 1 of the paper says: 5 voxels along each axis
in the first stage, 372 in the lowest, 551 at the end. The paper states no number of parameters; with one modality and
two classes there are 65,182,226 here. MedicalZooPytorch (45 million) and MONAI (45,597,898) have fewer convolutions -
1, 1, 2, 3, 2 in the encoder and 2, 2, 1, 1 in the decoder - and the authors' Caffe file has 1, 1, 2, 3, 3 and
3, 2, 1, 1.

F. Milletari, N. Navab, S.-A. Ahmadi: V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
Segmentation. 3DV 2016, arXiv:1606.04797.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.choices import NormLayer
from core.config import ModelConfig
from core.models.blocks import (
    ConvUnit,
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

KERNEL_SIZE = 5
MAX_CONVOLUTIONS = 3  # in one stage


class VNet(SegmentationNetwork):
    """A V-Net: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config : ModelConfig. ``channels``, ``norm`` and ``deep_supervision`` are used: channels at each resolution, full
        resolution first, where level n has n + 1 convolutions, at most three; "batch", "instance" or "group"
        normalisation after each convolution; in training, the logits of inner decoder levels as the extra
        "deep_supervision" (:mod:`core.models.deep_supervision`). The other options are the architecture's own, and
        replaced in the network's ``config``.
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Notes
    -----
    Images are padded inside to a multiple of ``divisor`` = 2^(levels - 1).
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        channels, norm = self.config.channels, self.config.norm
        self.entry = nn.Identity() if in_channels == 1 else nn.Conv3d(in_channels, channels[0], kernel_size=1)
        self.first = ResidualStage(in_channels, channels[0], self.encoder_convolutions(0), norm)
        self.encoder = nn.ModuleList()
        for level in range(1, len(channels)):
            convolutions = self.encoder_convolutions(level)
            self.encoder.append(EncoderStage(channels[level - 1], channels[level], convolutions, norm))
        self.decoder = nn.ModuleList()
        below = channels[-1]
        for level in reversed(range(len(channels) - 1)):
            self.decoder.append(DecoderStage(below, channels[level], self.decoder_convolutions(level), norm))
            below = 2 * channels[level]
        self.classifier = nn.Conv3d(below, classes, kernel_size=1)
        initialise(self, self.classifier, "prelu")
        widths = [2 * width for width in channels[:-1]]
        self.auxiliary = DeepSupervision(self.config.deep_supervision, widths, classes)

    def forward(self, image: Tensor) -> Tensor | NetworkOutput:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        image, crop = self.pad(image)
        x = self.first(image, self.entry(image))
        skips: list[Tensor] = []
        auxiliary: list[Tensor] = []
        for encode in self.encoder:
            skips.append(x)
            x = encode(x)
        for decode in self.decoder:
            x = decode(x, skips.pop())
            auxiliary = [*self.auxiliary(x, len(skips)), *auxiliary]
        return self.auxiliary.output(crop(self.classifier(x)), auxiliary)

    def stages(self) -> list[StageModule]:
        return encoder_decoder_stages([self.first, *self.encoder], self.decoder, self.classifier)

    def layers_reading_image(self) -> list[WeightedLayer]:
        return [*weighted_layers(self.entry), *weighted_layers(self.first)[:1]]

    def layers_giving_outputs(self) -> list[WeightedLayer]:
        return [*super().layers_giving_outputs(), *weighted_layers(self.auxiliary)]

    @staticmethod
    def encoder_convolutions(level: int) -> int:
        """Number of 5x5x5 convolutions of the encoder at a level: 1, 2, 3, 3, ..."""
        return min(level + 1, MAX_CONVOLUTIONS)

    @staticmethod
    def decoder_convolutions(level: int) -> int:
        """Number of 5x5x5 convolutions of the decoder at a level."""
        return VNet.encoder_convolutions(level)


class ResidualStage(nn.Module):
    """5x5x5 convolutions; ``shortcut`` is added to the last one's output before the activation."""

    def __init__(self, in_channels: int, out_channels: int, convolutions: int, norm: NormLayer) -> None:
        super().__init__()
        units = []
        for n in range(convolutions):
            inputs = in_channels if n == 0 else out_channels
            last = n == convolutions - 1
            units.append(ConvUnit(inputs, out_channels, norm, None if last else "prelu", KERNEL_SIZE))
        self.convolutions = nn.Sequential(*units)
        self.activation = activation_layer("prelu", out_channels)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        return self.activation(self.convolutions(x) + shortcut)


class EncoderStage(nn.Module):
    """Halve the size and change the channels, then a residual stage."""

    def __init__(self, in_channels: int, out_channels: int, convolutions: int, norm: NormLayer) -> None:
        super().__init__()
        self.down = ConvUnit(in_channels, out_channels, norm, "prelu", kernel_size=2, stride=2)
        self.stage = ResidualStage(out_channels, out_channels, convolutions, norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return self.stage(x, x)


class DecoderStage(nn.Module):
    """Double the size, with the skip's channels, concatenate the skip connection, then a residual stage on both."""

    def __init__(self, in_channels: int, skip_channels: int, convolutions: int, norm: NormLayer) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose3d(in_channels, skip_channels, kernel_size=2, stride=2),
            norm_layer(norm, skip_channels),
            activation_layer("prelu", skip_channels),
        )
        self.stage = ResidualStage(2 * skip_channels, 2 * skip_channels, convolutions, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = torch.cat((self.up(x), skip), dim=1)
        return self.stage(x, x)
