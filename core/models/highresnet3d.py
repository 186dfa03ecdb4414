"""The HighRes3DNet of Li et al. 2017: residual blocks of dilated convolutions at full resolution throughout.

Figure 1 of the paper (HC-default), for ``channels`` (16, 32, 64)::

    image -> 3x3x3 conv, 16 -> norm -> ReLU
          -> 3 residual blocks, 16 channels, dilation 1
          -> 3 residual blocks, 32 channels, dilation 2
          -> 3 residual blocks, 64 channels, dilation 4
          -> norm -> ReLU -> 1x1x1 conv -> logits

    residual block:  x -> norm -> ReLU -> 3x3x3 conv -> norm -> ReLU -> 3x3x3 conv -> (+) ->
                     |____________________ zeros for new channels ____________________|

There is no pooling: nothing is lost to a coarser grid, 87 voxels are seen along each axis, and the parameters are few,
but every feature map has the size of the image. The convolutions have no bias and, for 1 modality and the paper's 160
classes, 812,464 weights (the paper: 0.81 million); scales and shifts of the normalisation (1,408) and the classifier's
160 biases come on top.

Where this differs from the paper: the last residual sum is normalised and rectified before the classifier, as in other
networks with activations before convolutions (He et al. 2016, arXiv:1603.05027). A convolution with dilation d is
computed as one without on the d^3 interleaved grids of its input, which gives the same values in less time; so
images are padded inside to a multiple of the largest dilation. HC-dropout, which samples a wider last layer to estimate
uncertainty, is left out.

W. Li, G. Wang, L. Fidon, S. Ourselin, M. J. Cardoso, T. Vercauteren: On the Compactness, Efficiency, and Representation
of 3D Convolutional Networks: Brain Parcellation as a Pretext Task. IPMI 2017, arXiv:1707.01992.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from core.compute.convolution_precision import SafeConv3d
from core.config import ModelConfig
from core.models.blocks import SegmentationNetwork, StageModule, initialise
from core.models.dense_blocks import NormActivation

BLOCKS = 3  # residual blocks of each dilation
CONVOLUTIONS = 2  # in a residual block


class HighResNet3D(SegmentationNetwork):
    """A HighRes3DNet: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config : ModelConfig. ``channels``: channels of the blocks with dilation 1, 2, 4, ...; ``norm`` and ``activation``
        before each convolution.
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Notes
    -----
    Images are padded inside to a multiple of ``divisor``, the largest dilation 2^(groups - 1).
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        channels = self.config.channels
        self.entry = nn.Sequential(
            nn.Conv3d(in_channels, channels[0], kernel_size=3, padding=1, bias=False),
            NormActivation(channels[0], self.config),
        )
        self.groups = nn.ModuleList()
        width = channels[0]
        for level, group_width in enumerate(channels):
            blocks = []
            for _ in range(BLOCKS):
                blocks.append(ResidualBlock(width, group_width, 2**level, self.config))
                width = group_width
            self.groups.append(nn.Sequential(*blocks))
        self.exit = NormActivation(width, self.config)
        self.classifier = nn.Conv3d(width, classes, kernel_size=1)
        initialise(self, self.classifier, self.config.activation)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        image, crop = self.pad(image)
        x = self.entry(image)
        for group in self.groups:
            x = group(x)
        return crop(self.classifier(self.exit(x)))

    def stages(self) -> list[StageModule]:
        return [
            StageModule("encoder", 0, self.entry, reads_image=True),
            *(StageModule("encoder", 0, group) for group in self.groups[:-1]),
            StageModule("bottleneck", 0, self.groups[-1]),
            StageModule("logits", 0, self.classifier),
        ]


class ResidualBlock(nn.Module):
    """Two times normalisation, activation and dilated convolution; the input is added, with zeros as new channels."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int, config: ModelConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n in range(CONVOLUTIONS):
            width = in_channels if n == 0 else out_channels
            layers += [
                NormActivation(width, config),
                InterleavedConv3d(width, out_channels, dilation),
            ]
        self.layers = nn.Sequential(*layers)
        new = out_channels - in_channels
        self.padding = (new // 2, new - new // 2)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x, (0, 0, 0, 0, 0, 0, *self.padding)) if any(self.padding) else x
        return self.layers(x) + shortcut


class InterleavedConv3d(SafeConv3d):
    """A 3x3x3 convolution with a dilation, without bias, that keeps the size.

    The voxels at every ``step``-th place make a smaller image. Each of these step^3 images is convolved without
    dilation, as an item of the batch, which fast convolution algorithms can do. The size has to be a multiple of
    ``step``.
    """

    def __init__(self, in_channels: int, out_channels: int, step: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        if self.step == 1:
            return super().forward(x)
        batch, d = len(x), self.step
        i, j, k = (n // d for n in x.shape[2:])
        x = x.reshape(batch, self.in_channels, i, d, j, d, k, d).permute(0, 3, 5, 7, 1, 2, 4, 6)
        x = super().forward(x.reshape(batch * d**3, self.in_channels, i, j, k))
        x = x.reshape(batch, d, d, d, self.out_channels, i, j, k).permute(0, 4, 5, 1, 6, 2, 7, 3)
        return x.reshape(batch, self.out_channels, i * d, j * d, k * d)
