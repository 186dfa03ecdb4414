"""3D-SkipDenseSeg of Bui et al. 2019: a DenseNet whose blocks are all upsampled to full resolution and classified.

Their Figure 1, and the authors' code (tbuikr/3D-SkipDenseSeg). Three 3x3x3 convolutions at full resolution; four dense
blocks, each at half the size of the one above, of four bottleneck layers (1x1x1 to 4 k channels, 3x3x3 to k, growth
rate k = 16); transitions that halve channels (1x1x1) and size (2x2x2 of stride 2). Each block's output reaches full
resolution by one transposed convolution, to a channel per class; those channels and the first ones are classified::

    image - 3 x 32 ---------------------------------------------------\\
            |  2x2x2, stride 2                                        |
            dense block 1/2    96 ---- up x2  (4x4x4)    classes -----+
            |  transition                                             |
            dense block 1/4   112 ---- up x4  (6x6x6)    classes -----+- norm, activation, 1x1x1 -> classes
            |  transition                                             |
            dense block 1/8   120 ---- up x8  (10x10x10) classes -----+
            |  transition                                             |
            dense block 1/16  124 ---- up x16 (18x18x18) classes -----/

A transposed convolution makes each class from its own share of the channels. Where the number of classes does not
divide the channels, which MedicalZooPytorch's version cannot, a 1x1x1 convolution brings them to the next multiple
first. Two modalities and four classes have 1,552,092 parameters (the paper: 1.55 million), as in the authors' code but
for 164 biases in the transitions, which a normalisation follows.

Where this differs from the paper: no dropout (0.2 after each layer; see :mod:`core.models.densenet_early`); the
transposed convolutions start with weights of fitting variance, as the other layers do (trilinear and a tenth of the
learning rate in the Caffe version); any size works.

T. D. Bui, J. Shin, T. Moon: Skip-connected 3D DenseNet for Volumetric Infant Brain MRI Segmentation. Biomedical Signal
Processing and Control 54, 2019; 3D Densely Convolutional Networks for Volumetric Segmentation, arXiv:1709.03199.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.architecture import StageKind
from core.models.blocks import SegmentationNetwork, StageModule, initialise
from core.models.dense_blocks import DenseBlock, NormActivation, PreActivatedConv

LAYERS_PER_BLOCK = 4
BOTTLENECK_FACTOR = 4  # channels between the two convolutions of a layer, in growth rates


class SkipDenseNet3D(SegmentationNetwork):
    """A 3D-SkipDenseSeg: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config : ModelConfig. Its options mean here:

        - ``channels``: channels of the convolutions at full resolution, then the growth rate of the dense block at each
          level below; their number is the depth.
        - ``norm``: "batch", "instance" or "group" normalisation.
        - ``activation``: "relu", "leaky_relu" (slope 0.01) or "prelu" (a slope per channel).
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Notes
    -----
    Images are padded inside to a multiple of ``divisor`` = 2^(levels - 1).
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        first, *growth_rates = config.channels
        self.first = nn.Sequential(
            nn.Conv3d(in_channels, first, kernel_size=3, padding=1, bias=False),
            PreActivatedConv(first, first, config),
            PreActivatedConv(first, first, config),
        )
        self.encoder, ups = nn.ModuleList(), []
        width = first
        for level, growth_rate in enumerate(growth_rates, 1):
            down: nn.Module = PreActivatedConv(width, width, config, kernel_size=2, stride=2)
            if level > 1:
                down = nn.Sequential(
                    PreActivatedConv(width, width // 2, config, kernel_size=1),
                    PreActivatedConv(width // 2, width // 2, config, kernel_size=2, stride=2),
                )
                width //= 2
            block = DenseBlock(width, growth_rate, _bottleneck_layers(width, growth_rate, config))
            width = block.out_channels
            self.encoder.append(nn.Sequential(down, block))
            ups.append(UpToFullResolution(width, classes, level))
        self.up = nn.ModuleList(ups)
        joined = first + classes * len(growth_rates)
        self.join = NormActivation(joined, config)
        self.classifier = nn.Conv3d(joined, classes, kernel_size=1)
        initialise(self, self.classifier, config.activation)
        for up in ups:
            up.initialise()

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        image, crop = self.pad(image)
        x = self.first(image)
        at_full_resolution = [x]
        for encode, up in zip(self.encoder, self.up, strict=True):
            x = encode(x)
            at_full_resolution.append(up(x))
        return crop(self.classifier(self.join(torch.cat(at_full_resolution, dim=1))))

    def stages(self) -> list[StageModule]:
        deepest = len(self.encoder)
        stages = [StageModule("encoder", 0, self.first, reads_image=True)]
        for level, (encode, up) in enumerate(zip(self.encoder, self.up, strict=True), 1):
            kind: StageKind = "bottleneck" if level == deepest else "encoder"
            stages += [StageModule(kind, level, encode), StageModule("decoder", 0, up)]
        return [*stages, StageModule("logits", 0, self.classifier)]


class UpToFullResolution(nn.Module):
    """The output of a level, brought to full resolution by one transposed convolution: a channel per class."""

    def __init__(self, in_channels: int, classes: int, level: int) -> None:
        super().__init__()
        stride, multiple = 2**level, -(-in_channels // classes) * classes
        self.widen = nn.Identity() if multiple == in_channels else nn.Conv3d(in_channels, multiple, 1, bias=False)
        self.transposed = nn.ConvTranspose3d(
            multiple, classes, kernel_size=stride + 2, stride=stride, padding=1, groups=classes, bias=False
        )

    @torch.no_grad()
    def initialise(self) -> None:
        """Fresh weights: an output voxel has the variance of the inputs that reach it."""
        kernel, stride = self.transposed.kernel_size[0], self.transposed.stride[0]
        inputs = self.transposed.in_channels / self.transposed.groups * (kernel / stride) ** 3
        nn.init.normal_(self.transposed.weight, std=1 / math.sqrt(inputs))
        if isinstance(self.widen, nn.Conv3d):
            nn.init.normal_(self.widen.weight, std=1 / math.sqrt(self.widen.in_channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.transposed(self.widen(x))


def _bottleneck_layers(in_channels: int, growth_rate: int, config: ModelConfig) -> list[nn.Module]:
    """The layers of a dense block: 1x1x1 to four growth rates, 3x3x3 to one."""
    inner = BOTTLENECK_FACTOR * growth_rate
    return [
        nn.Sequential(
            PreActivatedConv(in_channels + n * growth_rate, inner, config, kernel_size=1),
            PreActivatedConv(inner, growth_rate, config),
        )
        for n in range(LAYERS_PER_BLOCK)
    ]
