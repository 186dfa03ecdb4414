"""The Med3D network of Chen et al. 2019: a 3D ResNet with dilations, whose published weights start a training.

MedicalNet's ResNet, for ``resnet_depth`` 10, 18, 34 or 50::

    image -> 7x7x7 conv 64, stride 2 -> batch norm -> ReLU -> 3x3x3 max pooling, stride 2      size / 4
          -> layer1: blocks of  64 channels                                                    size / 4
          -> layer2: blocks of 128 channels, stride 2                                          size / 8
          -> layer3: blocks of 256 channels, dilation 2                                        size / 8
          -> layer4: blocks of 512 channels, dilation 4                                        size / 8
          -> 2x2x2 transposed conv 32 -> batch norm -> ReLU -> 3x3x3 conv 32 -> batch norm -> ReLU
          -> 1x1x1 conv -> trilinear interpolation to the image's size -> logits               size / 4, then size

    block (10, 18, 34):  3x3x3 conv -> norm -> ReLU -> 3x3x3 conv -> norm -> (+) shortcut -> ReLU
    block (50):          1x1x1 conv -> norm -> ReLU -> 3x3x3 conv -> norm -> ReLU -> 1x1x1 conv, 4 times as many
                         channels -> norm -> (+) shortcut -> ReLU

Where the size or the number of channels changes, the shortcut is a 1x1x1 convolution with a norm (10 and 50, type B of
He et al.) or every second voxel with zeros as new channels (18 and 34, type A), as in the published weights. Their
files (``resnet_10.pth``, ``resnet_10_23dataset.pth``, ...; github.com/Tencent/MedicalNet, huggingface.co/
TencentMedicalNet) fit by name: start a training with ``--model med3d --init-from resnet_10.pth``. They have one input
channel; for several modalities the first kernel is repeated and divided by their number.

The encoder has 14.36, 32.99, 63.30 and 46.16 million parameters; MedicalNet states 14.36, 32.99, 63.31 and 46.21, with
the running means and variances of batch normalisation. With the decoder, one modality and two classes there are 14.51,
33.15, 63.45 and 46.71 million. The paper's decoder is a 1x1x1 convolution and an interpolation, MedicalNet's is the one
above, which ends at a quarter of the image's size; the interpolation of the logits to full size is the paper's. Details
finer than about four voxels are out of its reach: it is meant for organs and for few training data, not for thin
structures.

S. Chen, K. Ma, Y. Zheng: Med3D: Transfer Learning for 3D Medical Image Analysis. arXiv:1904.00625, 2019, section 3.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.choices import ResNetDepth
from core.config import ModelConfig
from core.models.blocks import SegmentationNetwork, StageModule, WeightedLayer, initialise
from core.models.resampling import linear_resize
from core.types import triple

WIDTHS = (64, 128, 256, 512)
STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 2, 4)
HEAD_WIDTH = 32
BOTTLENECK_EXPANSION = 4
BLOCKS: dict[ResNetDepth, tuple[int, ...]] = {
    "10": (1, 1, 1, 1),
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 6, 3),
}
PARAMETER_FREE_SHORTCUTS: tuple[ResNetDepth, ...] = ("18", "34")  # type A
BOTTLENECKS: tuple[ResNetDepth, ...] = ("50",)


class Med3D(SegmentationNetwork):
    """A Med3D network: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config : ModelConfig. ``resnet_depth`` is used: number of layers of the ResNet. The widths are fixed, those of the
        published weights.
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Attributes
    ----------
    single_modality_kernels : tuple of str. Kernels that read the image; weights of a network with one modality are
        repeated for several (:mod:`core.checkpointing.foreign_weights`).

    Notes
    -----
    The names of the modules are MedicalNet's. Images are padded inside to a multiple of 8.
    """

    single_modality_kernels = ("conv1.weight",)

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        depth = self.config.resnet_depth
        self.conv1 = nn.Conv3d(in_channels, WIDTHS[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = OverlappingMaxPool()
        width = WIDTHS[0]
        layers = []
        for n, (count, planes) in enumerate(zip(BLOCKS[depth], WIDTHS, strict=True)):
            blocks = []
            for number in range(count):
                stride = STRIDES[n] if number == 0 else 1
                blocks.append(ResidualBlock(depth, width, planes, stride, DILATIONS[n]))
                width = blocks[-1].out_channels
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.conv_seg = nn.Sequential(
            nn.ConvTranspose3d(width, HEAD_WIDTH, kernel_size=2, stride=2),
            nn.BatchNorm3d(HEAD_WIDTH),
            nn.ReLU(inplace=True),
            nn.Conv3d(HEAD_WIDTH, HEAD_WIDTH, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm3d(HEAD_WIDTH),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Conv3d(HEAD_WIDTH, classes, kernel_size=1)
        self.to_full_size = UpSampledLogits()
        initialise(self, self.classifier, "relu")

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        inside, crop = self.pad(image)
        x = self.maxpool(self.relu(self.bn1(self.conv1(inside))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return crop(self.to_full_size(self.classifier(self.conv_seg(x)), inside))

    def stages(self) -> list[StageModule]:
        return [
            StageModule("encoder", 1, self.conv1, reads_image=True),
            StageModule("encoder", 2, self.layer1),
            StageModule("encoder", 3, self.layer2),
            StageModule("encoder", 3, self.layer3),
            StageModule("bottleneck", 3, self.layer4),
            StageModule("decoder", 2, self.conv_seg),
            StageModule("logits", 0, self.to_full_size),
        ]

    def layers_giving_outputs(self) -> list[WeightedLayer]:
        return [self.classifier]


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions, or a 3x3x3 between two 1x1x1 in a ResNet-50, and a shortcut.

    Parameters
    ----------
    depth : str. Number of layers of the ResNet.
    in_channels, planes : int. Channels of the input, and of the 3x3x3 convolutions.
    stride, dilation : int.

    Attributes
    ----------
    out_channels : int.
    """

    def __init__(self, depth: ResNetDepth, in_channels: int, planes: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.is_bottleneck = depth in BOTTLENECKS
        self.out_channels = planes * (BOTTLENECK_EXPANSION if self.is_bottleneck else 1)
        self.stride = stride
        self.new_channels = self.out_channels - in_channels
        if self.is_bottleneck:
            self.conv1 = nn.Conv3d(in_channels, planes, kernel_size=1, bias=False)
            self.bn1 = nn.BatchNorm3d(planes)
            self.conv2 = _convolution(planes, planes, stride, dilation)
            self.bn2 = nn.BatchNorm3d(planes)
            self.conv3 = nn.Conv3d(planes, self.out_channels, kernel_size=1, bias=False)
            self.bn3 = nn.BatchNorm3d(self.out_channels)
        else:
            self.conv1 = _convolution(in_channels, planes, stride, dilation)
            self.bn1 = nn.BatchNorm3d(planes)
            self.conv2 = _convolution(planes, planes, 1, dilation)
            self.bn2 = nn.BatchNorm3d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if (stride > 1 or self.new_channels) and depth not in PARAMETER_FREE_SHORTCUTS:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, self.out_channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm3d(self.out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.is_bottleneck:
            y = self.bn3(self.conv3(self.relu(y)))
        return self.relu(y + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """The input in the size and with the channels of the output."""
        if self.downsample is not None:
            return self.downsample(x)
        step = self.stride
        x = x[..., ::step, ::step, ::step]
        return F.pad(x, (0, 0, 0, 0, 0, 0, 0, self.new_channels)) if self.new_channels else x


class OverlappingMaxPool(nn.Module):
    """3x3x3 max pooling of values from 0 up, with stride 2 and a border of one voxel.

    This is torch's operator, except under deterministic algorithms: its CUDA backward is not deterministic. The
    maximum is then taken along one axis after the other, and the gradient of ties shared.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.are_deterministic_algorithms_enabled():
            return F.max_pool3d(x, kernel_size=3, stride=2, padding=1)
        x = F.pad(x, (1, 1, 1, 1, 1, 1))
        for axis in (2, 3, 4):
            last = x.shape[axis] - 2
            shifted = [x.narrow(axis, start, last).unfold(axis, 1, 2)[..., 0] for start in range(3)]
            x = torch.maximum(torch.maximum(shifted[0], shifted[1]), shifted[2])
        return x


class UpSampledLogits(nn.Module):
    """Logits, interpolated trilinearly to the size of the image."""

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        return linear_resize(logits, triple([int(n) for n in image.shape[2:]]))


def _convolution(in_channels: int, out_channels: int, stride: int, dilation: int) -> nn.Conv3d:
    return nn.Conv3d(
        in_channels, out_channels, kernel_size=3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )
