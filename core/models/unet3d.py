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

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import (
    ConvUnit,
    MaxPool2,
    NetworkOutput,
    SegmentationNetwork,
    StageModule,
    WeightedLayer,
    encoder_decoder_stages,
    initialise,
    weighted_layers,
)
from core.models.deep_supervision import DeepSupervision

DEFAULT_CONVOLUTIONS = 2  # per level in encoder and decoder (Cicek et al.)


class UNet3D(SegmentationNetwork):
    """A 3D U-Net: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config : ModelConfig. Its options mean here:

        - ``channels``: channels at each resolution, full resolution first; their number is the depth.
        - ``norm``: "batch", "instance" or "group" normalisation after each convolution.
        - ``activation``: "relu", "leaky_relu" (slope 0.01) or "prelu" (a slope per channel) after each normalisation.
        - ``downsampling``: "pool", 2x2x2 max pooling between levels; "stride", the first convolution of a level has
          stride 2.
        - ``widening``: "before" (the paper), the first convolution of an encoder level has half of the level's
          channels, and the transposed convolution keeps the channels of the level below; "after" (nnU-Net), all
          convolutions of a level have its channels, and the transposed convolution reduces to the skip's. With
          instance norm, LeakyReLU and strides this is nnU-Net's plain U-Net.
        - ``full_resolution``: "level", as all others; "detail", a U-Net at half resolution reads the image through one
          more convolution, with stride 2 or after pooling; beside it, convolutions of the image at full resolution are
          concatenated with the U-Net's output, and the classifier reads both at their full width.
        - ``convolutions``: 3x3x3 convolutions at each resolution, in encoder and decoder alike, full resolution first;
          the last number holds for all resolutions below; empty: 2 everywhere (the paper). Most of the work is done at
          full resolution: one convolution there, and few channels, make a network several times as fast.
        - ``deep_supervision``: in training, the logits of inner decoder levels as the extra "deep_supervision"
          (:mod:`core.models.deep_supervision`).
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Notes
    -----
    Levels halve the size, so images are padded inside to a multiple of ``divisor`` = 2^(levels - 1) and logits cropped
    back (:func:`core.models.blocks.pad_to_divisor`); any size from 1 voxel upwards works.
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        levels = [EncoderLevel(spec, self.config) for spec in encoder_levels(self.config, in_channels)]
        self.encoder = nn.ModuleList(levels[:-1])
        self.bottleneck = levels[-1]
        decoder = decoder_levels(self.config)
        self.decoder = nn.ModuleList(DecoderLevel(spec, self.config) for spec in decoder)
        self.classifier = nn.Conv3d(decoder[-1].out_channels, classes, kernel_size=1)
        initialise(self, self.classifier, self.config.activation)
        widths = [spec.out_channels for spec in reversed(decoder)]
        self.auxiliary = DeepSupervision(self.config.deep_supervision, widths, classes)

    def forward(self, image: Tensor) -> Tensor | NetworkOutput:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        inside, crop = self.pad(image)
        x, skips = inside, []
        for encode in (*self.encoder, self.bottleneck):
            x = encode(inside if encode.reads_image else x)
            skips.append(x)
        x = skips.pop()
        auxiliary: list[Tensor] = []
        for decode in self.decoder:
            x = decode(x, skips.pop())
            auxiliary = [*self.auxiliary(x, len(skips)), *auxiliary]
        return self.auxiliary.output(crop(self.classifier(x)), auxiliary)

    def stages(self) -> list[StageModule]:
        encoder = [*self.encoder, self.bottleneck]
        from_image = [level for level, module in enumerate(encoder) if module.reads_image]
        return encoder_decoder_stages(encoder, self.decoder, self.classifier, from_image)

    def layers_reading_image(self) -> list[WeightedLayer]:
        levels = (stage.module for stage in self.stages() if stage.reads_image)
        return [weighted_layers(level)[0] for level in levels]

    def layers_giving_outputs(self) -> list[WeightedLayer]:
        return [*super().layers_giving_outputs(), *weighted_layers(self.auxiliary)]


class EncoderLevel(nn.Sequential):
    """Halve the size (except at level 0), then the level's convolutions."""

    def __init__(self, spec: EncoderLevelSpec, config: ModelConfig) -> None:
        widths = (spec.in_channels, *spec.out_channels)
        units = [
            ConvUnit(widths[n], widths[n + 1], config.norm, config.activation, stride=spec.stride if n == 0 else 1)
            for n in range(len(spec.out_channels))
        ]
        super().__init__(MaxPool2() if spec.pooled else nn.Identity(), *units)
        self.reads_image = spec.reads_image


class DecoderLevel(nn.Module):
    """Double the size, concatenate the skip connection, then the level's convolutions."""

    def __init__(self, spec: DecoderLevelSpec, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(spec.in_channels, spec.up_channels, kernel_size=2, stride=2)
        widths = [spec.up_channels + spec.skip_channels, *[spec.out_channels] * spec.convolutions]
        self.convolutions = nn.Sequential(
            *[ConvUnit(widths[n], widths[n + 1], config.norm, config.activation) for n in range(spec.convolutions)]
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.convolutions(torch.cat((self.up(x), skip), dim=1))


@dataclass(frozen=True)
class EncoderLevelSpec:
    """One encoder level, or the bottleneck.

    Attributes
    ----------
    reads_image : bool. Whether the level reads the image instead of the output of the level above.
    pooled : bool. Whether the level starts with 2x2x2 max pooling.
    stride : int. Stride of the first convolution.
    in_channels : int
    out_channels : tuple of int. Output channels of each 3x3x3 convolution.
    """

    reads_image: bool
    pooled: bool
    stride: int
    in_channels: int
    out_channels: tuple[int, ...]


@dataclass(frozen=True)
class DecoderLevelSpec:
    """One decoder level: transposed convolution, concatenation with the skip connection, 3x3x3 convolutions.

    Attributes
    ----------
    in_channels, up_channels : int. Channels of the level below, and after the transposed convolution.
    skip_channels, out_channels : int. Channels of the skip connection, and of every 3x3x3 convolution.
    convolutions : int. Number of 3x3x3 convolutions.
    """

    in_channels: int
    up_channels: int
    skip_channels: int
    out_channels: int
    convolutions: int


def encoder_levels(config: ModelConfig, in_channels: int) -> list[EncoderLevelSpec]:
    """The encoder levels, full resolution first; the last is the bottleneck. ``config`` is resolved."""
    specs = []
    for level, width in enumerate(config.channels):
        reads_image = level == 0 or (level == 1 and _half_resolution_reads_image(config))
        # A level below 0 that reads the image needs one more convolution to bring it to half resolution.
        count = _convolutions_at(config, level) + (1 if reads_image and level else 0)
        inner = max(1, width // 2) if config.widening == "before" else width
        specs.append(
            EncoderLevelSpec(
                reads_image=reads_image,
                pooled=level > 0 and config.downsampling == "pool",
                stride=2 if level > 0 and config.downsampling == "stride" else 1,
                in_channels=in_channels if reads_image else config.channels[level - 1],
                out_channels=(*[inner] * (count - 1), width),
            )
        )
    return specs


def decoder_levels(config: ModelConfig) -> list[DecoderLevelSpec]:
    """The decoder levels, deepest first. ``config`` is resolved."""
    specs = []
    below = config.channels[-1]
    for level in reversed(range(len(config.channels) - 1)):
        skip = config.channels[level]
        up = below if config.widening == "before" else skip
        keeps_width = level == 0 and _half_resolution_reads_image(config)
        out = up + skip if keeps_width else skip
        specs.append(DecoderLevelSpec(below, up, skip, out, _convolutions_at(config, level)))
        below = out
    return specs


def _convolutions_at(config: ModelConfig, level: int) -> int:
    if not config.convolutions:
        return DEFAULT_CONVOLUTIONS
    return config.convolutions[min(level, len(config.convolutions) - 1)]


def _half_resolution_reads_image(config: ModelConfig) -> bool:
    return config.full_resolution == "detail"
