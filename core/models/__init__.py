"""The registry of network architectures; importing it costs no torch, building a network does."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.config import ModelConfig
from core.errors import ConfigError

if TYPE_CHECKING:
    from core.models.blocks import SegmentationNetwork


@dataclass(frozen=True)
class Architecture:
    """One entry of the registry.

    Attributes
    ----------
    module, class_name : where the class lives; it is imported when a network is built.
    channels : channels at each resolution where the configuration leaves them open.
    help : one line for forms and ``--help``.
    """

    module: str
    class_name: str
    channels: tuple[int, ...]
    help: str

    def load(self) -> type[SegmentationNetwork]:
        """Import the class (and torch)."""
        return getattr(importlib.import_module(self.module), self.class_name)


MODELS: dict[str, Architecture] = {
    "unet3d": Architecture(
        "core.models.unet3d", "UNet3D", (64, 128, 256, 512), "3D U-Net (Cicek et al. 2016); 3x3x3 convolutions"
    ),
    "vnet": Architecture(
        "core.models.vnet",
        "VNet",
        (16, 32, 64, 128, 256),
        "V-Net (Milletari et al. 2016); residual, 5x5x5 convolutions",
    ),
}


def architecture(name: str) -> Architecture:
    """Look up an architecture.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if name not in MODELS:
        raise ConfigError(f"model: expected one of {', '.join(MODELS)}; got {name!r}")
    return MODELS[name]


def convolutions_at(config: ModelConfig, level: int) -> int:
    """How many 3x3x3 convolutions a U-Net has at a resolution; 0 is the full one."""
    return config.convolutions[min(level, len(config.convolutions) - 1)] if config.convolutions else 2


def encoder_convolutions(config: ModelConfig, level: int) -> int:
    """How many of them are in the encoder: where full resolution is only detail, one more takes the image to half."""
    return convolutions_at(config, level) + (1 if receives_input_image(config, level) and level else 0)


def receives_input_image(config: ModelConfig, level: int) -> bool:
    """Whether an encoder level sees the image itself, not what leaves the level above."""
    return level == 0 or (level == 1 and config.full_resolution == "detail")


def keeps_concat_width(config: ModelConfig, level: int) -> bool:
    """Whether a decoder level goes on with as many channels as it has joined, instead of those of the skip."""
    return level == 0 and config.full_resolution == "detail"


def build_model(config: ModelConfig, in_channels: int, classes: int) -> SegmentationNetwork:
    """Build the configured network with fresh weights (from torch's global generator), in training mode, on the CPU.

    Parameters
    ----------
    config : architecture, widths and layers; empty ``channels`` take the architecture's own.
    in_channels : number of modalities.
    classes : number of classes, the background included.

    Returns
    -------
    A module that maps an image (batch, in_channels, i, j, k) of any size to logits (batch, classes, i, j, k). Its
    attributes ``config`` (everything resolved: built again from it the network is the same), ``in_channels``,
    ``classes``, ``levels`` and ``divisor`` say what it is.

    Raises
    ------
    ConfigError
        If the architecture is unknown or cannot have the configured values.
    """
    entry = architecture(config.model)
    resolved = dataclasses.replace(config, channels=config.channels or entry.channels)
    return entry.load().from_config(resolved, in_channels, classes)
