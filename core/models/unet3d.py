"""The 3D U-Net of Cicek et al. 2016, with the later variations as options.

The default is the article's network: four resolutions, two 3x3x3 convolutions at each, batch normalisation before each
ReLU, channels doubled before pooling, 2x2x2 transposed convolutions that keep the channels, skip connections, a final
1x1x1 convolution. All convolutions have a bias and keep the size (the paper's are unpadded): 19,074,724 parameters for
2 channels and 4 classes. The paper counts 19,069,955 for 3 and 3; that leaves out the scales and shifts of batch
normalisation (4,672) and the biases of the transposed convolutions (896).

O. Cicek, A. Abdulkadir, S. S. Lienkamp, T. Brox, O. Ronneberger: 3D U-Net: Learning Dense Volumetric Segmentation from
Sparse Annotation. MICCAI 2016, arXiv:1606.06650.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from core.config import Activation, Downsampling, FullResolution, ModelConfig, NormLayer, Widening
from core.models import convolutions_at, encoder_convolutions, keeps_concat_width, receives_input_image
from core.models.blocks import ConvUnit, MaxPool2, SegmentationNetwork, initialise


class UNet3D(SegmentationNetwork):
    """A 3D U-Net: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    in_channels : number of modalities.
    classes : number of classes, the background included.
    channels : channels at each resolution, full resolution first; their number is the depth.
    norm : "batch", "instance" or "group" normalisation after each convolution.
    activation : "relu", "leaky_relu" (slope 0.01) or "prelu" (a slope per channel) after each normalisation.
    downsampling : "pool": 2x2x2 max pooling between levels; "stride": the first convolution of a level has stride 2.
    widening : "before" (the paper): the first convolution of an encoder level has half of the level's channels, the
        transposed convolution keeps the channels of the level below. "after" (nnU-Net): both convolutions of a level
        have all its channels, the transposed convolution goes to the skip's. With instance norm, LeakyReLU and strides
        that is nnU-Net's plain U-Net.
    full_resolution : "level": as all others. "detail": the network is a U-Net at half resolution, which the image
        enters by one more convolution, with stride 2 (or after pooling), and beside it there are convolutions of the
        image alone at full resolution; what comes up is joined with them, and not narrowed before the classifier.
    convolutions : 3x3x3 convolutions at each resolution, in encoder and decoder alike, full resolution first; the last
        number is that of all resolutions below, too; empty: 2 everywhere (the paper). Most of the work is done at full
        resolution: one convolution there, and few channels, make a network several times as fast that loses little.

    Raises
    ------
    ConfigError
        If an option is none of its choices.

    Notes
    -----
    Levels halve the size, so images are padded inside to a multiple of ``divisor`` = 2^(levels - 1) and logits cropped
    back (:func:`core.models.blocks.pad_to_divisor`); from 1 voxel upwards, any size works.
    """

    def __init__(
        self,
        in_channels: int = 2,
        classes: int = 4,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        norm: NormLayer = "batch",
        activation: Activation = "relu",
        downsampling: Downsampling = "pool",
        widening: Widening = "before",
        convolutions: tuple[int, ...] = (),
        full_resolution: FullResolution = "level",
    ) -> None:
        config = ModelConfig(
            "unet3d", channels, convolutions, norm, activation, downsampling, widening, full_resolution
        )  # fmt: skip
        super().__init__(config, in_channels, classes)
        levels = []
        below = in_channels
        for level, width in enumerate(channels):
            levels.append(
                EncoderLevel(in_channels if receives_input_image(config, level) else below, width, config, level)
            )
            below = width
        self.encoder = nn.ModuleList(levels[:-1])
        self.bottleneck = levels[-1]
        self.decoder = nn.ModuleList()
        for level in reversed(range(len(channels) - 1)):
            decode = DecoderLevel(below, channels[level], config, level)
            self.decoder.append(decode)
            below = decode.channels
        self.classifier = nn.Conv3d(below, classes, kernel_size=1)
        initialise(self, self.classifier, activation)

    @classmethod
    def from_config(cls, config: ModelConfig, in_channels: int, classes: int) -> Self:
        options = (config.norm, config.activation, config.downsampling, config.widening, config.convolutions)
        return cls(in_channels, classes, config.channels, *options, config.full_resolution)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        inside, crop = self.pad(image)
        x, skips = inside, []
        for level, encode in enumerate((*self.encoder, self.bottleneck)):
            x = encode(inside if receives_input_image(self.config, level) else x)
            skips.append(x)
        x = skips.pop()
        for decode in self.decoder:
            x = decode(x, skips.pop())
        return crop(self.classifier(x))


class EncoderLevel(nn.Sequential):
    """Halve the size (but at level 0), then the level's convolutions."""

    def __init__(self, in_channels: int, out_channels: int, config: ModelConfig, level: int) -> None:
        pool = level > 0 and config.downsampling == "pool"
        stride = 2 if level > 0 and config.downsampling == "stride" else 1
        count = encoder_convolutions(config, level)
        inner = max(1, out_channels // 2) if config.widening == "before" else out_channels
        widths = [in_channels, *[inner] * (count - 1), out_channels]
        units = [
            ConvUnit(widths[n], widths[n + 1], config.norm, config.activation, stride=stride if n == 0 else 1)
            for n in range(count)
        ]
        super().__init__(MaxPool2() if pool else nn.Identity(), *units)


class DecoderLevel(nn.Module):
    """Double the size, join the skip connection, then the level's convolutions."""

    def __init__(self, in_channels: int, skip_channels: int, config: ModelConfig, level: int) -> None:
        super().__init__()
        up_channels = in_channels if config.widening == "before" else skip_channels
        joined = up_channels + skip_channels
        self.channels = joined if keeps_concat_width(config, level) else skip_channels
        self.up = nn.ConvTranspose3d(in_channels, up_channels, kernel_size=2, stride=2)
        self.convolutions = nn.Sequential(
            *[
                ConvUnit(joined if n == 0 else self.channels, self.channels, config.norm, config.activation)
                for n in range(convolutions_at(config, level))
            ]
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.convolutions(torch.cat((self.up(x), skip), dim=1))
