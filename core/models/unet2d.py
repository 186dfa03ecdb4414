"""The 2D U-Net of Ronneberger et al. 2015 on the axial slices of a volume: the control that shows what 3D adds.

Every slice along k is segmented by itself, and the slices are joined to a volume::

    image (batch, modality, i, j, k) -> slices (batch * k, modality, i, j)
          -> U-Net of five resolutions, figure 1 of the paper:
             two 3x3 convolutions at each, 2x2 max pooling, 2x2 up-convolution to half of the channels,
             skip connections, 1x1 convolution to the classes
          -> logits (batch, class, i, j, k)

A voxel's logits depend on its own slice alone. The slices are items of a batch, so that they are computed together;
normalisation layers see slices, not volumes. Kernels are stored as (out, in, 1, 3, 3), so that every part of the
program that reads 3D kernels works; only i and j are padded and halved.

Where this differs from the paper: padded convolutions, which keep the size, and a normalisation layer after each. For 1
modality and 2 classes the network of the paper has 31,030,658 weights and biases; scales and shifts of the
normalisation (11,776) come on top.

O. Ronneberger, P. Fischer, T. Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
arXiv:1505.04597.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import (
    ConvUnit,
    Crop,
    SegmentationNetwork,
    StageModule,
    encoder_decoder_stages,
    initialise,
)

CONVOLUTIONS = 2  # at each resolution
KERNEL = (1, 3, 3)


class UNet2D(SegmentationNetwork):
    """A 2D U-Net on axial slices: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config : ModelConfig. ``channels`` at each resolution, full resolution first; ``norm`` and ``activation`` after each
        convolution.
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Notes
    -----
    i and j are padded inside to a multiple of 2^(levels - 1), k is not.
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        self.divisor = (self.divisor[0], self.divisor[1], 1)
        channels = self.config.channels
        widths = (in_channels, *channels)
        self.encoder = nn.ModuleList(
            EncoderLevel(widths[level], width, level > 0, self.config) for level, width in enumerate(channels)
        )
        self.decoder = nn.ModuleList(
            DecoderLevel(channels[level + 1], channels[level], self.config)
            for level in reversed(range(len(channels) - 1))
        )
        self.classifier = SliceClassifier(channels[0], classes)
        initialise(self, self.classifier, self.config.activation)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        x, crop = self.pad(image)
        skips = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        skips.pop()
        for decode in self.decoder:
            x = decode(x, skips.pop())
        return crop(self.classifier(x))

    def pad(self, image: Tensor) -> tuple[Tensor, Crop]:
        """Pad i and j; a slice whose deepest level would be a single pixel gets a second one, however many slices there
        are."""
        padded, crop = super().pad(image)
        rows, columns, _ = self.divisor
        if tuple(padded.shape[2:4]) != (rows, columns):
            return padded, crop
        wider = F.pad(padded, (0, 0, 0, 0, 0, rows), mode="replicate")
        return wider, lambda x: crop(x[:, :, :rows])

    def stages(self) -> list[StageModule]:
        return encoder_decoder_stages(list(self.encoder), self.decoder, self.classifier)


class EncoderLevel(nn.Module):
    """Halve i and j (except at level 0), then the level's convolutions, slice by slice."""

    def __init__(self, in_channels: int, out_channels: int, pooled: bool, config: ModelConfig) -> None:
        super().__init__()
        self.pooled = pooled
        self.convolutions = _convolutions(in_channels, out_channels, config)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (batch, channel, i, j, k)."""
        slices = to_slices(x)
        if self.pooled:
            # The operator for pictures has a deterministic CUDA backward, that for volumes does not.
            slices = F.max_pool2d(slices[:, :, 0], 2)[:, :, None]
        return to_volume(self.convolutions(slices), len(x))


class DecoderLevel(nn.Module):
    """Double i and j, concatenate the skip connection, then the level's convolutions, slice by slice."""

    def __init__(self, in_channels: int, out_channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(in_channels, out_channels, kernel_size=(1, 2, 2), stride=(1, 2, 2))
        self.convolutions = _convolutions(2 * out_channels, out_channels, config)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Feature maps (batch, channel, i, j, k)."""
        slices = torch.cat((self.up(to_slices(x)), to_slices(skip)), dim=1)
        return to_volume(self.convolutions(slices), len(x))


class SliceClassifier(nn.Conv3d):
    """A 1x1 convolution of slices."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return to_volume(super().forward(to_slices(x)), len(x))


def to_slices(x: Tensor) -> Tensor:
    """Axial slices (batch * k, channel, 1, i, j) of a volume (batch, channel, i, j, k); a view of what
    :func:`to_volume` gives."""
    return x.permute(0, 4, 1, 2, 3).flatten(0, 1).unsqueeze(2)


def to_volume(slices: Tensor, batch: int) -> Tensor:
    """The volume (batch, channel, i, j, k) of axial slices (batch * k, channel, 1, i, j), as a view."""
    return slices.squeeze(2).unflatten(0, (batch, len(slices) // batch)).permute(0, 2, 3, 4, 1)


def _convolutions(in_channels: int, out_channels: int, config: ModelConfig) -> nn.Sequential:
    widths = [in_channels, *[out_channels] * CONVOLUTIONS]
    units = [ConvUnit(a, b, config.norm, config.activation, KERNEL) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*units)
