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

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import ConvUnit, MaxPool2, SegmentationNetwork, StageModule, encoder_decoder_stages, initialise
from core.models.unet3d_spec import UNET3D, DecoderLevelSpec, EncoderLevelSpec, decoder_levels, encoder_levels


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
    in_channels : int. Number of modalities.
    classes : int. Number of classes, the background included.

    Notes
    -----
    Levels halve the size, so images are padded inside to a multiple of ``divisor`` = 2^(levels - 1) and logits cropped
    back (:func:`core.models.blocks.pad_to_divisor`); any size from 1 voxel upwards works.
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(UNET3D, config, in_channels, classes)
        levels = [EncoderLevel(spec, self.config) for spec in encoder_levels(self.config, in_channels)]
        self.encoder = nn.ModuleList(levels[:-1])
        self.bottleneck = levels[-1]
        decoder = decoder_levels(self.config)
        self.decoder = nn.ModuleList(DecoderLevel(spec, self.config) for spec in decoder)
        self.classifier = nn.Conv3d(decoder[-1].out_channels, classes, kernel_size=1)
        initialise(self, self.classifier, self.config.activation)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        inside, crop = self.pad(image)
        x, skips = inside, []
        for encode in (*self.encoder, self.bottleneck):
            x = encode(inside if encode.reads_image else x)
            skips.append(x)
        x = skips.pop()
        for decode in self.decoder:
            x = decode(x, skips.pop())
        return crop(self.classifier(x))

    def stages(self) -> list[StageModule]:
        return encoder_decoder_stages([*self.encoder, self.bottleneck], self.decoder, self.classifier)


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
