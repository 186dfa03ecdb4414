"""The dual dense path of Dolz et al. 2019: a densely connected path per modality, joined late.

The baseline with late fusion beside HyperDenseNet in their Section "Baselines". The paths do not see each other until
their channels are concatenated for the 1x1x1 convolutions::

    T1  -> 25 25 25 - 50 50 50 - 75 75 75 \\
    T2  -> 25 25 25 - 50 50 50 - 75 75 75 -+-> 400 -> 200 -> 150 -> classes
    ... -> 25 25 25 - 50 50 50 - 75 75 75 /    1x1x1

Any number of modalities works, at a cost that grows with it. Everything else, and what differs from the paper, is as in
:mod:`core.models.densenet_early`. The kernels of two modalities and four classes have 5,230,700 values.

J. Dolz, K. Gopinath, J. Yuan, H. Lombaert, C. Desrosiers, I. Ben Ayed: HyperDense-Net: A Hyper-Densely Connected CNN
for Multi-Modal Image Segmentation. IEEE Transactions on Medical Imaging 38(5), 2019, arXiv:1804.02967.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import SegmentationNetwork, StageModule, WeightedLayer, initialise, weighted_layers
from core.models.dense_blocks import DensePath, FullyConvolutionalLayers


class DenseNetLate(SegmentationNetwork):
    """A dense path per modality: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config, in_channels, classes : as :class:`core.models.densenet_early.DenseNetEarly`.
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        paths = [DensePath(1, config) for _ in range(in_channels)]
        self.paths = nn.ModuleList(paths)
        self.head = FullyConvolutionalLayers(sum(path.out_channels for path in paths), config)
        self.classifier = nn.Conv3d(self.head.out_channels, classes, kernel_size=1)
        initialise(self, self.classifier, config.activation)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        image, crop = self.pad(image)
        modalities = image.split(1, dim=1)
        x = torch.cat([path(modality) for path, modality in zip(self.paths, modalities, strict=True)], dim=1)
        return crop(self.classifier(self.head(x)))

    def stages(self) -> list[StageModule]:
        return [
            *(
                StageModule("encoder", 0, group, reads_image=number == 0)
                for path in self.paths
                for number, group in enumerate(path.get_submodule("groups").children())
            ),
            StageModule("decoder", 0, self.head),
            StageModule("logits", 0, self.classifier),
        ]

    def layers_reading_image(self) -> list[WeightedLayer]:
        return [weighted_layers(path)[0] for path in self.paths]
