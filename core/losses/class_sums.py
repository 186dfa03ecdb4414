"""Sums over the voxels of a sub-volume or of a batch, per class, and the mean of the scores made of them.

The score of a class that the target contains is a ratio of such sums (Dice, Tversky). That of a class which it does not
contain is 1 minus the class's mean probability over the N voxels, 1 - sum p / N. The usual formulas give an absent
class s / (sum p + s), with the smoothing s: nearly 0 unless the probabilities vanish, so that a perfect prediction
loses 1 / classes, and with hardly any gradient (none for s = 0), so that false positives are not penalised. Squares in
the denominator (Milletari et al. 2016) do not change that. Here a class absent from target and prediction scores 1 with
no gradient, and false positives are penalised in proportion.

Voxels with the ignore label are left out of all sums and of N, so that the loss is that of the other voxels alone; a
sub-volume without any other voxel is left out of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.losses.labelled import Labelled


@dataclass(frozen=True)
class ClassSums:
    """Sums of each class, shape (batch, class), or (class,) over the batch.

    Attributes
    ----------
    p : Tensor, shape (batch, class, i, j, k). Probabilities; 0 in ignored voxels.
    axes : tuple of int. Axes of ``p`` that are summed.
    true_positive, predicted, truth : Tensor. Sums of p t, of p, and of t, for the one-hot target t.
    voxels : Tensor or int. Voxels N of each sub-volume, shape (batch, 1), or of the batch.
    """

    p: Tensor
    axes: tuple[int, ...]
    true_positive: Tensor
    predicted: Tensor
    truth: Tensor
    voxels: Tensor | int

    @classmethod
    def of(cls, p: Tensor, labelled: Labelled, include_background: bool = True, batch_dice: bool = False) -> ClassSums:
        """The sums of probabilities (batch, class, i, j, k).

        Parameters
        ----------
        include_background : bool. Whether class 0 is one of them; of regions none is the background.
        batch_dice : bool. Sum over the voxels of the batch instead of each sub-volume.

        Raises
        ------
        ValueError
            If no class remains without the background.
        """
        onehot = labelled.onehot
        if not include_background and not labelled.overlapping:
            if p.shape[1] < 2:
                raise ValueError("expected at least two classes to leave the background out, got one")
            p, onehot = p[:, 1:], onehot[:, 1:]
        axes = (0, 2, 3, 4) if batch_dice else (2, 3, 4)
        voxels: Tensor | int = p[:, 0].numel() if batch_dice else p[0, 0].numel()
        if labelled.counted is not None:
            p = labelled.without_ignored(p)
            voxels = labelled.counted.sum(axes, dtype=torch.float32)
        true_positive = torch.where(onehot, p, 0.0).sum(axes)
        return cls(p, axes, true_positive, p.sum(axes), onehot.sum(axes, dtype=torch.float32), voxels)

    @property
    def absent(self) -> Tensor:
        """Whether the target lacks the class, bool."""
        return self.truth == 0

    @property
    def mean_probability(self) -> Tensor:
        """The mean of p over the voxels of the sub-volume or batch; 0 where all are ignored."""
        return self.predicted / (self.voxels.clamp_min(1) if isinstance(self.voxels, Tensor) else self.voxels)

    def mean_loss(self, numerator: Tensor, denominator: Tensor) -> Tensor:
        """1 minus the mean score over classes and sub-volumes: the ratio for a class that the target contains.

        Parameters
        ----------
        numerator, denominator : Tensor, of the shape of the sums. The denominator is not 0 where the class is present.
        """
        # The 1 where it is absent keeps the unused gradient finite.
        present_score = numerator / torch.where(self.absent, 1.0, denominator)
        return self.mean_over_sub_volumes(torch.where(self.absent, 1 - self.mean_probability, present_score))

    def mean_over_sub_volumes(self, score: Tensor) -> Tensor:
        """1 minus the mean of scores, of the shape of the sums, over classes and over sub-volumes with voxels that are
        not ignored; 0 if there are none."""
        if not isinstance(self.voxels, Tensor):
            return 1 - score.mean()
        weight = (self.voxels > 0).float()
        return ((1 - score) * weight).sum() / (weight.sum() * score.shape[-1]).clamp_min(1)
