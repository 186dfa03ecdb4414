"""Sections of the configuration about the network: architecture, loss and optimisation."""

from __future__ import annotations

from dataclasses import dataclass

from core import choices
from core.choices import (
    Activation,
    Downsampling,
    FullResolution,
    LossName,
    LrSchedule,
    NormLayer,
    OptimizerName,
    ResNetDepth,
    Widening,
)
from core.errors import ConfigError
from core.fields import Checked, option


@dataclass(frozen=True)
class ModelConfig(Checked):
    """Network: architecture and width."""

    model: str = option(
        "unet3d",
        "Network",
        "a network of the program, or a class of your own as path/to/file.py:ClassName",
        advanced=False,
    )
    channels: tuple[int, ...] = option(
        (),
        "Channels per level",
        "channels per level, full resolution first; empty: those of the network",
        unit="channels",
        minimum=1,
        maximum=4096,
    )
    convolutions: tuple[int, ...] = option(
        (),
        "Convolutions per level",
        "convolutions per level of unet3d, full resolution first; the last holds for all deeper levels; empty: 2",
        unit="convolutions",
        minimum=1,
        maximum=8,
    )
    norm: NormLayer = option(
        "batch",
        "Normalisation layer",
        "normalisation layer after each convolution",
        texts=choices.NORM_LAYER_WORDS,
    )
    activation: Activation = option(
        "relu",
        "Activation",
        "activation after each normalisation layer",
        texts=choices.ACTIVATION_WORDS,
    )
    downsampling: Downsampling = option(
        "pool",
        "Down-sampling",
        "2x2x2 max pooling or strided convolution",
        texts=choices.DOWNSAMPLING_WORDS,
    )
    widening: Widening = option(
        "before",
        "Doubling of the channels",
        "double channels before down-sampling (Cicek et al.) or after it (nnU-Net)",
        texts=choices.WIDENING_WORDS,
    )
    full_resolution: FullResolution = option(
        "level",
        "Full resolution",
        "level: unet3d has a full level there; detail: a shallow branch parallel to a U-Net at half resolution",
        texts=choices.FULL_RESOLUTION_WORDS,
    )
    deep_supervision: bool = option(
        False,
        "Deep supervision",
        "the loss is computed on the inner decoder levels too, level n with weight 1/2^n (nnU-Net); only in training",
    )
    resnet_depth: ResNetDepth = option(
        "10",
        "Layers of the ResNet",
        "layers of med3d's ResNet; those of the published weights to start from",
        texts=choices.RESNET_DEPTH_WORDS,
    )

    def check(self) -> None:
        if len(self.channels) == 1 or len(self.channels) > 8:
            raise ConfigError(f"channels: expected 2 to 8 resolutions or none, got {len(self.channels)}")
        if len(self.convolutions) > (len(self.channels) or 8):
            raise ConfigError(
                f"convolutions: expected at most one number for each of the {len(self.channels) or 8} resolutions, got "
                f"{len(self.convolutions)}"
            )


@dataclass(frozen=True)
class LossConfig(Checked):
    """Loss: the training objective."""

    loss: LossName = option(
        "dice",
        "Loss",
        "training loss; docs/losses.md has formulas, and when to choose which",
        texts=choices.LOSS_NAME_WORDS,
    )
    include_background: bool = option(True, "Background in the Dice loss", "include the background in the Dice loss")
    batch_dice: bool = option(
        False, "One Dice over the batch", "one Dice over the whole batch instead of one per sub-volume"
    )
    dice_smooth: float = option(
        1e-5,
        "Smoothing of the Dice loss",
        "added to numerator and denominator of the Dice",
        minimum=0,
        maximum=1e6,
        log_scale=True,
    )
    class_weight_power: float = option(
        0.5,
        "Power of the class weights",
        "weight of a class in weighted_ce: its voxels in the training data to minus this power; 1: all classes count "
        "alike, 0: all voxels",
        minimum=0,
        maximum=1,
    )
    focal_gamma: float = option(
        2.0,
        "Focal exponent",
        "exponent gamma of focal and dice_focal: the larger, the less easy voxels count; 0: cross-entropy",
        minimum=0,
        maximum=10,
    )
    tversky_alpha: float = option(
        0.3, "Weight of false positives", "weight alpha of false positives in tversky", minimum=0, maximum=10
    )
    tversky_beta: float = option(
        0.7, "Weight of false negatives", "weight beta of false negatives in tversky", minimum=0.01, maximum=10
    )
    boundary_weight: float = option(
        0.1,
        "Weight of the boundary loss",
        "weight of the distance from the boundary in boundary",
        minimum=0,
        maximum=10,
    )
    cldice_weight: float = option(
        0.5, "Share of clDice", "share of centre lines in cldice; the rest is Dice", unit="share", minimum=0, maximum=1
    )
    skeleton_iterations: int = option(
        3,
        "Erosions of the skeleton",
        "erosions of the skeleton in cldice: at least the radius of the thickest structure",
        unit="voxels",
        minimum=1,
        maximum=50,
    )


@dataclass(frozen=True)
class OptimConfig(Checked):
    """Optimisation: optimizer, learning rate and gradients."""

    optimizer: OptimizerName = option(
        "sgd",
        "Optimizer",
        "optimizer",
        texts=choices.OPTIMIZER_NAME_WORDS,
    )
    learning_rate: float = option(
        1e-3, "Learning rate", "peak learning rate", minimum=1e-12, maximum=100, advanced=False, log_scale=True
    )
    momentum: float = option(0.0, "Momentum", "momentum of sgd, rmsprop and muon", minimum=0, maximum=0.9999)
    weight_decay: float = option(
        1e-8,
        "Weight decay",
        "weight decay (decoupled for adamw and muon, L2 for the others)",
        minimum=0,
        maximum=10,
        log_scale=True,
    )
    lr_schedule: LrSchedule = option(
        "constant",
        "Learning-rate schedule",
        "learning-rate schedule",
        texts=choices.LR_SCHEDULE_WORDS,
    )
    warmup: float = option(
        0.0,
        "Warm-up",
        "share of the run for learning-rate warm-up",
        unit="share",
        minimum=0,
        maximum=0.5,
        special_word="none",
    )
    accumulate: int = option(
        1,
        "Gradient accumulation",
        "batches per optimizer step (gradient accumulation)",
        unit="batches",
        minimum=1,
        maximum=1024,
    )
    clip_norm: float = option(
        0.0,
        "Largest gradient norm",
        "largest gradient norm (clipping); 0: no clipping",
        minimum=0,
        maximum=1e9,
        special_word="no clipping",
    )
    ema: float = option(
        0.0,
        "Decay of the averaged weights (EMA)",
        "decay of the exponential moving average (EMA) of the weights; 0: none",
        minimum=0,
        maximum=0.99999,
        special_word="none",
    )
