"""The single dense path of Dolz et al. 2019: all modalities enter one densely connected path together.

The baseline with early fusion beside HyperDenseNet in their Section "Baselines". Nine 3x3x3 convolutions at full
resolution, each of which reads the concatenated outputs of all before it; three 1x1x1 convolutions; a classifier::

    T1, T2, ... -> 25 25 25 - 50 50 50 - 75 75 75 -> 400 -> 200 -> 150 -> classes
                   3x3x3, densely connected          1x1x1

There is no pooling: a voxel sees 19 x 19 x 19 voxels, and memory grows with the number of channels times the full size
of the sub-volume. Each convolution follows normalisation and PReLU; the first one reads the image as it is.

Where this differs from the paper: convolutions are padded, so that logits have the size of the image (the paper's lose
18 voxels along each axis); the classifier follows an activation too; no dropout (0.25 before the 1x1x1 convolutions in
the authors' code): its random numbers come from torch's global generator, which a resumed run does not restore. The
kernels of two modalities and four classes have 2,671,325 values.

J. Dolz, K. Gopinath, J. Yuan, H. Lombaert, C. Desrosiers, I. Ben Ayed: HyperDense-Net: A Hyper-Densely Connected CNN
for Multi-Modal Image Segmentation. IEEE Transactions on Medical Imaging 38(5), 2019, arXiv:1804.02967.
"""

from __future__ import annotations

from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import SegmentationNetwork, StageModule, initialise
from core.models.dense_blocks import DensePath, FullyConvolutionalLayers


class DenseNetEarly(SegmentationNetwork):
    """One dense path: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config : ModelConfig. ``channels`` and ``norm`` are used: channels of each 3x3x3 convolution, three convolutions per
        number (the 1x1x1 convolutions follow in proportion to the last); "batch", "instance" or "group" normalisation
        before each convolution but the first.
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.
    """

    separate_modalities = False

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        self.path = DensePath(in_channels, config, self.separate_modalities)
        self.head = FullyConvolutionalLayers(self.path.out_channels, config)
        self.classifier = nn.Conv3d(self.head.out_channels, classes, kernel_size=1)
        initialise(self, self.classifier, config.activation)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        image, crop = self.pad(image)
        return crop(self.classifier(self.head(self.path(image))))

    def stages(self) -> list[StageModule]:
        first, *others = self.path.groups
        return [
            StageModule("encoder", 0, first, reads_image=True),
            *(StageModule("encoder", 0, group) for group in others),
            StageModule("decoder", 0, self.head),
            StageModule("logits", 0, self.classifier),
        ]
