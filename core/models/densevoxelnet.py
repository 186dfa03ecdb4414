"""DenseVoxNet of Yu et al. 2017: two dense blocks at a half and a quarter of the size, and a side path in training.

Their Figure 2. A 3x3x3 convolution of stride 2; two dense blocks of twelve 3x3x3 convolutions with growth rate 12; a
1x1x1 convolution after each; 2x2x2 max pooling between them; two transposed convolutions back to full size::

    image - 3x3x3, stride 2: 16 - dense block: 160 - 1x1x1: 160 - pool - dense block: 304 - 1x1x1: 304 -\\
                                                         |                                             |
    side path, in training:             1x1x1: classes, half size             2x2x2, stride 2: 128 ----/
                                                                              2x2x2, stride 2:  64 - 1x1x1: classes

All layers of the dense blocks and the 1x1x1 convolutions follow normalisation and activation, the transposed
convolutions have an activation alone. The finest features are those of half the size: no skip connection reaches full
resolution.

In training the network returns the scores of the side path as the extra "deep_supervision": logits at half the size,
which the loss compares with the reference there (:mod:`core.models.deep_supervision`). The paper upsamples them and
weighs their loss 0.33.

The network has 1,701,491 parameters for one modality and three classes, and 483 of the side path; the paper says 1.8
million. MedicalZooPytorch comes to 1,783,408 with a transposed convolution in the side path (81,984), which is not
needed here. The authors' Caffe files have 4x4x4 instead of the paper's 2x2x2 transposed convolutions: 4.3 million.

Where this differs from the paper besides: no dropout (0.2 after each convolution; see
:mod:`core.models.densenet_early`); weights start with fitting variance (all with 0.01 in the paper); any size works.

L. Yu, J.-Z. Cheng, Q. Dou, X. Yang, H. Chen, J. Qin, P.-A. Heng: Automatic 3D Cardiovascular MR Segmentation with
Densely-Connected Volumetric ConvNets. MICCAI 2017, arXiv:1708.00573.
"""

from __future__ import annotations

from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import (
    MaxPool2,
    NetworkOutput,
    SegmentationNetwork,
    StageModule,
    WeightedLayer,
    activation_layer,
    initialise,
    weighted_layers,
)
from core.models.deep_supervision import DeepSupervision
from core.models.dense_blocks import PreActivatedConv, dense_block

LAYERS_PER_BLOCK = 12
UP_FACTOR = 4  # channels after the last transposed convolution, in channels of the first convolution: 64 for 16


class DenseVoxelNet(SegmentationNetwork):
    """A DenseVoxNet: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config : ModelConfig. Its options mean here:

        - ``channels``: channels of the first convolution, then the growth rate of each dense block; their number is the
          depth. The transposed convolutions end at four times the first number, twice as many at each level below.
        - ``norm``: "batch", "instance" or "group" normalisation.
        - ``activation``: "relu", "leaky_relu" (slope 0.01) or "prelu" (a slope per channel).
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Notes
    -----
    Images are padded inside to a multiple of ``divisor`` = 2^(number of dense blocks).
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        first, *growth_rates = config.channels
        self.encoder, self.transitions = nn.ModuleList(), nn.ModuleList()
        down: nn.Module = nn.Conv3d(in_channels, first, kernel_size=3, stride=2, padding=1, bias=False)
        width, sides = first, []
        for growth_rate in growth_rates:
            block = dense_block(width, growth_rate, LAYERS_PER_BLOCK, config)
            width = block.out_channels
            self.encoder.append(nn.Sequential(down, block))
            self.transitions.append(PreActivatedConv(width, width, config, kernel_size=1))
            sides.append(width)
            down = MaxPool2()
        self.decoder = nn.ModuleList()
        for level in reversed(range(len(growth_rates))):
            up_channels = UP_FACTOR * first * 2**level
            self.decoder.append(
                nn.Sequential(
                    nn.ConvTranspose3d(width, up_channels, kernel_size=2, stride=2),
                    activation_layer(config.activation, up_channels),
                )
            )
            width = up_channels
        self.classifier = nn.Conv3d(width, classes, kernel_size=1)
        initialise(self, self.classifier, config.activation)
        self.side_path = DeepSupervision(config.deep_supervision, [width, *sides[:-1]], classes)

    def forward(self, image: Tensor) -> Tensor | NetworkOutput:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k); in training with the extra
        "deep_supervision"."""
        x, crop = self.pad(image)
        side: list[Tensor] = []
        for level, (encode, transition) in enumerate(zip(self.encoder, self.transitions, strict=True), 1):
            x = transition(encode(x))
            if level < len(self.encoder):
                side += self.side_path(x, level)
        for up in self.decoder:
            x = up(x)
        return self.side_path.output(crop(self.classifier(x)), side)

    def stages(self) -> list[StageModule]:
        deepest = len(self.encoder)
        encoder = [
            StageModule("bottleneck" if level == deepest else "encoder", level, module, reads_image=level == 1)
            for level, module in enumerate(self.encoder, 1)
        ]
        decoder = [StageModule("decoder", deepest - 1 - n, module) for n, module in enumerate(self.decoder)]
        return [*encoder, *decoder, StageModule("logits", 0, self.classifier)]

    def layers_giving_outputs(self) -> list[WeightedLayer]:
        return [*super().layers_giving_outputs(), *weighted_layers(self.side_path)]
