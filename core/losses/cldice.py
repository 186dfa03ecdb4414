"""The Dice loss together with clDice: overlap of centre lines, so that thin structures stay connected.

For each foreground class, with its probability p = softmax(logits), its one-hot target t, their soft skeletons S(p) and
S(t) (:mod:`core.losses.soft_skeleton`), and sums over the voxels of a sub-volume,

    precision = (sum S(p) t + 1) / (sum S(p) + 1),    sensitivity = (sum S(t) p + 1) / (sum S(t) + 1)
    clDice = 2 precision sensitivity / (precision + sensitivity)
    L = (1 - a) Dice(p, t) + a (1 - mean clDice)

over foreground classes and sub-volumes. The authors sum over the foreground classes before dividing; here each class
counts alike, as in the Dice loss. A class that the target does not contain has sensitivity 1, and a precision that
falls with each false centre line.

S. Shit et al.: clDice - a novel topology-preserving loss function for tubular structure segmentation. CVPR 2021,
arXiv:2003.07311, equations 1 to 3 and section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from core.config import LossConfig
from core.losses.dice import DiceOptions, dice_of
from core.losses.labelled import Labelled
from core.losses.soft_skeleton import soft_skeleton

SMOOTH = 1.0


@dataclass(frozen=True)
class ClDiceOptions:
    """Variant of the loss.

    Attributes
    ----------
    weight : float, 0 to 1. Weight a.
    iterations : int. Erosions of the skeleton.
    """

    weight: float = 0.5
    iterations: int = 3

    @classmethod
    def from_config(cls, config: LossConfig) -> ClDiceOptions:
        """The configured variant."""
        return cls(config.cldice_weight, config.skeleton_iterations)


def cldice(labelled: Labelled, dice: DiceOptions, options: ClDiceOptions) -> Tensor:
    """The loss of a checked batch, 0 to 1."""
    p = labelled.probabilities
    overlap = (1 - options.weight) * dice_of(p, labelled, dice)
    return overlap + options.weight * cldice_of(p, labelled, options.iterations)


def cldice_of(p: Tensor, labelled: Labelled, iterations: int) -> Tensor:
    """1 minus the mean clDice of probabilities (batch, class, i, j, k), float32."""
    counted, axes = labelled.counted, (2, 3, 4)
    p = labelled.foreground(labelled.without_ignored(p))
    t = labelled.foreground(labelled.onehot).to(p.dtype)
    skeleton_p, skeleton_t = soft_skeleton(p, iterations, counted), soft_skeleton(t, iterations, counted)
    precision = ((skeleton_p * t).sum(axes) + SMOOTH) / (skeleton_p.sum(axes) + SMOOTH)
    sensitivity = ((skeleton_t * p).sum(axes) + SMOOTH) / (skeleton_t.sum(axes) + SMOOTH)
    loss = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    if counted is None:
        return loss.mean()
    weight = counted.flatten(1).any(1, keepdim=True).to(p.dtype)
    return (loss * weight).sum() / (weight.sum() * p.shape[1]).clamp_min(1)
