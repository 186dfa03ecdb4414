"""HyperDenseNet of Dolz et al. 2019: a path per modality, each layer connected to all earlier layers of all paths.

Their Figure 2 and Table I. Nine 3x3x3 convolutions in each path at full resolution; every one reads the concatenated
outputs of all earlier layers, of its own path and of the others; three 1x1x1 convolutions; a classifier::

    T1 -> 25 == 25 == 25 == 50 == 50 == 50 == 75 == 75 == 75 ==\\
             ><    ><    ><    ><    ><    ><    ><    ><       400 -> 200 -> 150 -> classes
    T2 -> 25 == 25 == 25 == 50 == 50 == 50 == 75 == 75 == 75 ==/

    ==, ><  dense connections: of the same path, and of the other

There is no pooling: a voxel sees 19 x 19 x 19 voxels, and memory grows with the number of channels times the full size
of the sub-volume. Each convolution follows normalisation and PReLU; the first one reads the image as it is. One
modality makes it the single path of :mod:`core.models.densenet_early`.

The paper concatenates the same channels in another order for each path. The order does not matter to freshly drawn
kernels, so all paths read one tensor here. For the 1x1x1 convolutions it concatenates the channels of both paths, each
of which holds all channels; the kernels of such a convolution are those of one convolution per path, whose outputs are
added, which is computed here. So the numbers of kernels are the paper's: 10,349,450 values for two modalities and four
classes; normalisation, PReLU and the bias of the classifier come on top.

Where this differs from the paper: convolutions are padded, so that logits have the size of the image (the paper's lose
18 voxels along each axis, and MedicalZooPytorch's upsamples what is left by 3, to another size); three modalities are
the most; the classifier follows an activation too; no dropout (see :mod:`core.models.densenet_early`).

J. Dolz, K. Gopinath, J. Yuan, H. Lombaert, C. Desrosiers, I. Ben Ayed: HyperDense-Net: A Hyper-Densely Connected CNN
for Multi-Modal Image Segmentation. IEEE Transactions on Medical Imaging 38(5), 2019, arXiv:1804.02967.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import SegmentationNetwork, StageModule, initialise
from core.models.dense_blocks import (
    CONVOLUTIONS_PER_GROUP,
    NormActivation,
    PreActivatedConv,
    head_widths,
)


class HyperDenseNet(SegmentationNetwork):
    """A HyperDenseNet: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config, in_channels, classes : as :class:`core.models.densenet_early.DenseNetEarly`; the channels are those of each
        path.
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        paths, width = in_channels, in_channels * config.channels[0]
        entry = nn.Conv3d(in_channels, width, kernel_size=3, padding=1, groups=paths, bias=False)
        self.groups = nn.ModuleList()
        for number, growth_rate in enumerate(config.channels):
            layers = []
            for _ in range(CONVOLUTIONS_PER_GROUP - (1 if number == 0 else 0)):
                layers.append(HyperDenseLayer(width, growth_rate, paths, config))
                width += paths * growth_rate
            self.groups.append(nn.Sequential(*([entry] if number == 0 else []), *layers))
        self.head = HyperDenseHead(width, paths, config)
        self.classifier = nn.Conv3d(self.head.out_channels, classes, kernel_size=1)
        initialise(self, self.classifier, config.activation)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        x, crop = self.pad(image)
        for group in self.groups:
            x = group(x)
        return crop(self.classifier(self.head(x)))

    def stages(self) -> list[StageModule]:
        return [
            *(StageModule("encoder", 0, group, reads_image=n == 0) for n, group in enumerate(self.groups)),
            StageModule("decoder", 0, self.head),
            StageModule("logits", 0, self.classifier),
        ]


class HyperDenseLayer(nn.Module):
    """A 3x3x3 convolution in each path, of the channels of all earlier layers, which are concatenated with them."""

    def __init__(self, in_channels: int, growth_rate: int, paths: int, config: ModelConfig) -> None:
        super().__init__()
        self.paths = nn.ModuleList(PreActivatedConv(in_channels, growth_rate, config) for _ in range(paths))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((*(convolve(x) for convolve in self.paths), x), dim=1)


class HyperDenseHead(nn.Module):
    """The 1x1x1 convolutions, the first of which adds up a convolution per path."""

    def __init__(self, in_channels: int, paths: int, config: ModelConfig) -> None:
        super().__init__()
        first, second, third = head_widths(config)
        self.paths = nn.ModuleList(PreActivatedConv(in_channels, first, config, kernel_size=1) for _ in range(paths))
        self.others = nn.Sequential(
            PreActivatedConv(first, second, config, kernel_size=1),
            PreActivatedConv(second, third, config, kernel_size=1),
            NormActivation(third, config),
        )
        self.out_channels = third

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.paths
        total = first(x)
        for convolve in others:
            total = total + convolve(x)
        return self.others(total)
