"""The registry of training losses; importing it needs no torch, building a loss does (:mod:`core.losses.build`).

A new loss takes a name in :data:`core.choices.LossName`, a module here, an entry in :data:`LOSSES`, and a line in
:data:`core.losses.build.TERMS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.choices import LossName
from core.config import LossConfig, ModelConfig
from core.errors import ConfigError
from core.fields import specs_of
from core.models import MODELS, architecture

VAE_EXTRAS = ("image", "reconstruction", "mean", "log_variance")  # of a network, for the loss "vae"
DICE_OPTIONS = ("include_background", "batch_dice", "dice_smooth")


@dataclass(frozen=True)
class Loss:
    """One loss of the registry.

    Attributes
    ----------
    help : str. One line for forms: what it is for.
    options : tuple of str. Fields of :class:`core.config.LossConfig` that it uses, beside ``loss``.
    extras : tuple of str. Further outputs of the network that it needs (:class:`core.models.blocks.NetworkOutput`).
    overlapping : bool. Whether it is for regions, which may overlap, too.
    """

    help: str
    options: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    overlapping: bool = True


LOSSES: dict[LossName, Loss] = {
    "dice": Loss("overlap of each class, regardless of its size (Milletari et al. 2016)", DICE_OPTIONS),
    "generalised_dice": Loss("one overlap of all classes, small ones weigh more (Sudre et al. 2017)", DICE_OPTIONS),
    "dice_ce": Loss("Dice plus cross-entropy, nnU-Net's choice: the one to begin with", DICE_OPTIONS),
    "bce_dice": Loss("Dice plus binary cross-entropy, each class against the rest", DICE_OPTIONS),
    "ce": Loss("cross-entropy of every voxel: smooth training, small classes count little"),
    "weighted_ce": Loss(
        "cross-entropy with weights for rare classes, from the training data",
        ("class_weight_power",),
        overlapping=False,
    ),
    "focal": Loss("cross-entropy that counts easy voxels less (Lin et al. 2017)", ("focal_gamma",)),
    "dice_focal": Loss("Dice plus focal loss (Zhu et al. 2019)", (*DICE_OPTIONS, "focal_gamma")),
    "tversky": Loss(
        "Dice with separate weights of false positives and false negatives (Salehi et al. 2017)",
        (*DICE_OPTIONS, "tversky_alpha", "tversky_beta"),
    ),
    "tags_angular": Loss(
        "squared angle between logits and class (Bai and Urtasun 2017), for comparison", overlapping=False
    ),
    "boundary": Loss(
        "Dice plus distance of errors from the reference's boundary (Kervadec et al. 2019)",
        (*DICE_OPTIONS, "boundary_weight"),
    ),
    "cldice": Loss(
        "Dice plus overlap of centre lines, for vessels and other thin structures (Shit et al. 2021)",
        (*DICE_OPTIONS, "cldice_weight", "skeleton_iterations"),
    ),
    "vae": Loss("Dice plus reconstruction of the image, for resnet3d_vae (Myronenko 2018)", DICE_OPTIONS, VAE_EXTRAS),
}


def unused_options(loss: LossName) -> set[str]:
    """Fields of :class:`core.config.LossConfig` that a loss does not use."""
    names = {spec.name for spec in specs_of(LossConfig, section="loss")}
    return names - {"loss", *LOSSES[loss].options}


def check_loss(loss: LossConfig, model: ModelConfig) -> None:
    """Refuse a loss and a network of the registry that do not belong together. A network from outside is checked when
    the loss is first computed.

    Raises
    ------
    ConfigError
        If the network is unknown, the loss needs outputs that it does not have, or it has outputs that only another
        loss uses.
    """
    network = architecture(model.model)
    if network.name not in MODELS:
        return
    needed, given = LOSSES[loss.loss].extras, network.extras
    if needed and not given:
        fitting = [name for name, entry in MODELS.items() if entry.extras == needed]
        raise ConfigError(
            f"loss: {loss.loss} needs a network with the outputs {', '.join(needed)} ({' or '.join(fitting)}), got "
            f"{network.name}; choose that network, or another loss"
        )
    if given and needed != given:
        fitting = [name for name, entry in LOSSES.items() if entry.extras == given]
        raise ConfigError(
            f"loss: {network.name} trains with the loss {' or '.join(fitting)}, which uses its outputs "
            f"{', '.join(given)}; got {loss.loss}"
        )
