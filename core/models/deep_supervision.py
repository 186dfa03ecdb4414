"""Deep supervision: logits of the inner decoder levels, and the target on their grids.

A decoder level below full resolution gets a classifier of its own, a 1x1x1 convolution, and the loss is computed there
too: the deeper levels receive gradients directly. In nnU-Net the loss of level n weighs 1 / 2^n, all weights divided by
their sum, and the deepest decoder level weighs 0; so it has no classifier here, unless it is the only one.

C.-Y. Lee, S. Xie, P. Gallagher, Z. Zhang, Z. Tu: Deeply-Supervised Nets. AISTATS 2015, arXiv:1409.5185.
F. Isensee et al.: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation. Nature
Methods 18, 2021.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from core.models.blocks import NetworkOutput

DEEP_SUPERVISION = "deep_supervision"  # name of the extra


class DeepSupervision(nn.Module):
    """Classifiers of the inner decoder levels; none, and no parameters, where the option is off.

    Parameters
    ----------
    enabled : bool. The option.
    widths : sequence of int. Channels of each decoder level, full resolution first.
    classes : int.
    """

    def __init__(self, enabled: bool, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.enabled = enabled
        self.classifiers = nn.ModuleDict()
        if enabled:
            for level in range(1, min(len(widths), max(2, len(widths) - 1))):
                classifier = nn.Conv3d(widths[level], classes, kernel_size=1)
                nn.init.normal_(classifier.weight, std=1 / math.sqrt(widths[level]))  # as blocks.initialise does
                nn.init.zeros_(classifier.bias)  # type: ignore[arg-type]
                self.classifiers[str(level)] = classifier

    def forward(self, x: Tensor, level: int) -> list[Tensor]:
        """The logits of the output ``x`` of a decoder level, as a list: empty in evaluation mode, and for a level
        without a classifier."""
        if not self.training or str(level) not in self.classifiers:
            return []
        return [self.classifiers[str(level)](x)]

    def output(self, logits: Tensor, auxiliary: Sequence[Tensor]) -> Tensor | NetworkOutput:
        """What the network returns.

        Parameters
        ----------
        logits : Tensor. Of the image's size.
        auxiliary : sequence of Tensor. What :meth:`forward` gave, level 1 first.
        """
        if not self.enabled or not self.training:
            return logits
        return NetworkOutput(logits, {DEEP_SUPERVISION: tuple(auxiliary)})


def at_each_level(auxiliary: Sequence[Tensor], target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each level's logits, cropped to the image, with the target on their grid.

    The network pads an image to a multiple of its divisor, half of the padding before it
    (:func:`core.models.blocks.pad_to_divisor`), so that a voxel of level n covers 2^n voxels of the *padded* image
    along each axis. Those that cover no voxel of the image are cropped. The target of the others is the voxel at
    2^n (u + 1/2), as nearest neighbours choose it, or the nearest one inside of the image. Nothing is interpolated:
    the ignore label stays what it is.

    Parameters
    ----------
    auxiliary : sequence of Tensor, shape (batch, classes, a, b, c). ``extras["deep_supervision"]``: the logits of
        levels 1, 2, ... on the grid of the padded image.
    target : Tensor, integer, shape (batch, i, j, k). Of the image's own size.

    Yields
    ------
    logits : Tensor, shape (batch, classes, a', b', c').
    target : Tensor, shape (batch, a', b', c').
    """
    for level, logits in enumerate(auxiliary, 1):
        step, at_level = 2**level, target
        crop: list[slice] = []
        for axis in (1, 2, 3):
            size = target.shape[axis]
            before = (logits.shape[axis + 1] * step - size) // 2
            first, last = before // step, (before + size - 1) // step
            crop.append(slice(first, last + 1))
            voxels = torch.arange(first, last + 1, device=target.device) * step + step // 2 - before
            at_level = at_level.index_select(axis, voxels.clamp_(0, size - 1))
        yield logits[:, :, crop[0], crop[1], crop[2]], at_level
