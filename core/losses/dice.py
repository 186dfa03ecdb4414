"""The multi-class Dice loss.

With probabilities p = softmax(logits), the one-hot target t, the smoothing s, and sums over the voxels of a sub-volume
(or of the batch), the score of a class c that the target contains is

    D_c = (2 sum p_c t_c + s) / (sum p_c + sum t_c + s)

and the loss is 1 minus the mean of D_c over classes and sub-volumes. :mod:`core.losses.class_sums` defines the score of
a class that the target does not contain, where this departs from the usual formula, and what is ignored.

F. Milletari, N. Navab, S.-A. Ahmadi: V-Net: Fully convolutional neural networks for volumetric medical image
segmentation. 3DV 2016, arXiv:1606.04797, section 3; without the squares in its denominator, which ``squared`` gives.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from core.config import LossConfig
from core.losses.class_sums import ClassSums
from core.losses.labelled import Labelled


@dataclass(frozen=True)
class DiceOptions:
    """Variant of the Dice loss; the attributes are the parameters of :func:`dice_loss`."""

    include_background: bool = True
    smooth: float = 1e-5
    batch_dice: bool = False
    squared: bool = False

    @classmethod
    def from_config(cls, config: LossConfig) -> DiceOptions:
        """The configured variant."""
        return cls(config.include_background, config.dice_smooth, config.batch_dice)


def dice_loss(
    logits: Tensor,
    target: Tensor,
    *,
    include_background: bool = True,
    smooth: float = 1e-5,
    batch_dice: bool = False,
    squared: bool = False,
) -> Tensor:
    """Multi-class Dice loss, 0 (perfect) to 1; the formula is in the module docstring.

    Parameters
    ----------
    logits : Tensor, floating, shape (batch, class, i, j, k).
    target : Tensor, integer, shape (batch, i, j, k). Class indices; a voxel with another value belongs to no class.
    include_background : bool. Whether class 0 is part of the mean.
    smooth : float. Smoothing s; may be 0.
    batch_dice : bool. Sum over the voxels of the batch (one score per class) instead of each sub-volume.
    squared : bool. Squares in the denominator (Milletari et al. 2016), for comparison.

    Returns
    -------
    Tensor, float32 scalar.

    Raises
    ------
    ValueError
        If shapes or types do not match, or no class remains without the background.
    """
    return dice(Labelled.of(logits, target), DiceOptions(include_background, smooth, batch_dice, squared))


def dice(labelled: Labelled, options: DiceOptions) -> Tensor:
    """The Dice loss of a checked batch."""
    return dice_of(labelled.probabilities, labelled, options)


def dice_of(p: Tensor, labelled: Labelled, options: DiceOptions) -> Tensor:
    """The Dice loss of probabilities (batch, class, i, j, k), float32."""
    sums = ClassSums.of(p, labelled, options.include_background, options.batch_dice)
    predicted = sums.p.square().sum(sums.axes) if options.squared else sums.predicted
    return sums.mean_loss(2 * sums.true_positive + options.smooth, predicted + sums.truth + options.smooth)
