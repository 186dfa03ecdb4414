"""The Tversky loss: Dice with separate weights of false positives and false negatives.

With probabilities p = softmax(logits), the one-hot target t, sums over the voxels of a sub-volume (or of the batch),
and the smoothing s, the score of a class c that the target contains is

    T_c = (sum p_c t_c + s) / (sum p_c t_c + alpha sum p_c (1 - t_c) + beta sum (1 - p_c) t_c + s)

and the loss is 1 minus the mean of T_c. alpha = beta = 1/2 gives the Dice loss (with twice the smoothing), a larger
beta finds more of a small structure at the price of false positives.

S. S. M. Salehi, D. Erdogmus, A. Gholipour: Tversky loss function for image segmentation using 3D fully convolutional
deep networks. MLMI 2017, arXiv:1706.05721, with its best alpha 0.3 and beta 0.7 as defaults.
"""

from __future__ import annotations

from torch import Tensor

from core.losses.class_sums import ClassSums
from core.losses.dice import DiceOptions
from core.losses.labelled import Labelled


def tversky(labelled: Labelled, options: DiceOptions, alpha: float, beta: float) -> Tensor:
    """The loss of a checked batch, 0 to 1.

    Parameters
    ----------
    alpha, beta : float, 0 or more. Weights of false positives and of false negatives.
    """
    p = labelled.probabilities
    sums = ClassSums.of(p, labelled, options.include_background, options.batch_dice)
    hits = sums.true_positive + options.smooth
    false_positive, false_negative = sums.predicted - sums.true_positive, sums.truth - sums.true_positive
    return sums.mean_loss(hits, hits + alpha * false_positive + beta * false_negative)
