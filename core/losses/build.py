"""The configured loss as one function of a network's output and the target.

Every loss takes logits (batch, class, i, j, k) of any floating type, or a :class:`core.models.blocks.NetworkOutput`,
and a target (batch, i, j, k) of integer class indices. Where the channels are regions, which may overlap, their targets
are made of the class indices (:attr:`LossFacts.regions`). It computes in float32 and returns a float32 scalar on the
device of the logits, without synchronising, deterministically, and finite also for absent classes and for sub-volumes
in which every voxel is ignored. With deep supervision the loss is computed on each level, with the weights of nnU-Net.
In evaluation mode, a validation, networks return logits alone: the loss is that of full resolution, and of ``vae`` the
Dice loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from core.choices import LossName
from core.config import LossConfig
from core.errors import ConfigError
from core.losses import LOSSES, VAE_EXTRAS
from core.losses.bce_dice import bce_dice
from core.losses.boundary import boundary
from core.losses.cldice import ClDiceOptions, cldice
from core.losses.cross_entropy import cross_entropy, weighted_cross_entropy
from core.losses.dice import DiceOptions, dice
from core.losses.dice_ce import dice_ce
from core.losses.focal import dice_focal, focal
from core.losses.generalised_dice import generalised_dice
from core.losses.labelled import Labelled
from core.losses.tags_angular import tags_angular
from core.losses.tversky import tversky
from core.losses.vae import vae_terms
from core.models.blocks import NetworkOutput
from core.models.deep_supervision import DEEP_SUPERVISION, at_each_level
from core.types import SpacingMm

LossFunction = Callable[[Tensor | NetworkOutput, Tensor], Tensor]


@dataclass(frozen=True)
class LossFacts:
    """What a loss takes from the training data.

    Attributes
    ----------
    class_weights : tuple of float. Of weighted_ce, one per class; none for equal weights.
    spacing_mm : tuple of float. Of boundary: voxel size of the images along i, j, k.
    regions : tuple of tuple of int. Class indices of each region, one per channel of the logits; empty where the
        channels are the classes.
    """

    class_weights: tuple[float, ...] = ()
    spacing_mm: SpacingMm = (1.0, 1.0, 1.0)
    regions: tuple[tuple[int, ...], ...] = ()


Term = Callable[[Labelled, LossConfig, LossFacts], Tensor]
TERMS: dict[LossName, Term] = {
    "dice": lambda x, c, f: dice(x, DiceOptions.from_config(c)),
    "generalised_dice": lambda x, c, f: generalised_dice(x, DiceOptions.from_config(c)),
    "dice_ce": lambda x, c, f: dice_ce(x, DiceOptions.from_config(c)),
    "bce_dice": lambda x, c, f: bce_dice(x, DiceOptions.from_config(c)),
    "ce": lambda x, c, f: cross_entropy(x),
    "weighted_ce": lambda x, c, f: weighted_cross_entropy(x, f.class_weights),
    "focal": lambda x, c, f: focal(x, c.focal_gamma),
    "dice_focal": lambda x, c, f: dice_focal(x, DiceOptions.from_config(c), c.focal_gamma),
    "tversky": lambda x, c, f: tversky(x, DiceOptions.from_config(c), c.tversky_alpha, c.tversky_beta),
    "tags_angular": lambda x, c, f: tags_angular(x),
    "boundary": lambda x, c, f: boundary(x, DiceOptions.from_config(c), c.boundary_weight, f.spacing_mm),
    "cldice": lambda x, c, f: cldice(x, DiceOptions.from_config(c), ClDiceOptions.from_config(c)),
    "vae": lambda x, c, f: dice(x, DiceOptions.from_config(c)),
}


@dataclass(frozen=True)
class ConfiguredLoss:
    """The configured loss; a :data:`LossFunction`.

    Attributes
    ----------
    config : LossConfig.
    ignore : bool. Whether targets may have the ignore label.
    facts : LossFacts. What it takes from the training data.
    """

    config: LossConfig
    ignore: bool
    facts: LossFacts

    def __call__(self, output: Tensor | NetworkOutput, target: Tensor) -> Tensor:
        """The loss of a batch.

        Raises
        ------
        ConfigError
            If a network in training lacks an extra that the loss needs, or has one that the loss does not use.
        ValueError
            If shapes or types do not match.
        """
        if isinstance(output, Tensor):
            self._check_extras(set(), in_training=output.requires_grad)
            return self._at_level(output, target, 0)
        logits, extras = output
        self._check_extras(set(extras) - {DEEP_SUPERVISION}, in_training=True)
        loss = self._with_levels(logits, target, extras.get(DEEP_SUPERVISION, ()))
        return loss + vae_terms(extras) if self.config.loss == "vae" else loss

    def _with_levels(self, logits: Tensor, target: Tensor, auxiliary: Tensor | tuple[Tensor, ...]) -> Tensor:
        """The mean loss of the levels, level n with weight 1 / 2^n."""
        loss, weights = self._at_level(logits, target, 0), 1.0
        for level, (coarse, at_level) in enumerate(at_each_level(tuple(auxiliary), target), 1):
            loss = loss + self._at_level(coarse, at_level, level) / 2**level
            weights += 1 / 2**level
        return loss if weights == 1 else loss / weights

    def _at_level(self, logits: Tensor, target: Tensor, level: int) -> Tensor:
        labelled = Labelled.of(logits, target, self.ignore, 2**level, self.facts.regions)
        return TERMS[self.config.loss](labelled, self.config, self.facts)

    def _check_extras(self, found: set[str], in_training: bool) -> None:
        name = self.config.loss
        missing = [extra for extra in LOSSES[name].extras if extra not in found]
        if missing and in_training:
            raise ConfigError(
                f"loss: {name} needs a network with the outputs {', '.join(VAE_EXTRAS)} in training, such as "
                f"resnet3d_vae; this one lacks {', '.join(missing)}; choose another network or another loss"
            )
        if unused := sorted(found - set(LOSSES[name].extras)):
            raise ConfigError(
                f"loss: expected a loss that uses the outputs {', '.join(unused)} of the network, got {name}; choose "
                "vae, or another network"
            )


def build_loss(config: LossConfig, ignore: bool = False, facts: LossFacts | None = None) -> LossFunction:
    """The configured loss as a function of a network's output and the target.

    Parameters
    ----------
    config : LossConfig.
    ignore : bool. Whether targets may have the ignore label.
    facts : LossFacts, optional. What it takes from the training data.
    """
    return ConfiguredLoss(config, ignore, facts or LossFacts())
