"""The registry of network architectures; importing it needs no torch, building a network does.

A new network takes two modules and a line here: ``NAME.py`` with the :class:`core.models.blocks.SegmentationNetwork`,
and ``NAME_spec.py``, torch-free, with its :class:`core.models.spec.Architecture`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from core.config import ModelConfig
from core.errors import ConfigError
from core.models.spec import Architecture
from core.models.unet3d_spec import UNET3D
from core.models.vnet_spec import VNET

if TYPE_CHECKING:
    from core.models.blocks import SegmentationNetwork

MODELS: dict[str, Architecture] = {entry.name: entry for entry in (UNET3D, VNET)}


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


def resolve(config: ModelConfig) -> ModelConfig:
    """The configuration with the architecture's own channels and fixed options filled in.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    return architecture(config.model).resolve(config)


def size_divisor(config: ModelConfig) -> int:
    """Number of voxels of which each side of a sub-volume should be a multiple; other sizes are padded to one.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    return architecture(config.model).divisor(config)


def build_model(config: ModelConfig, in_channels: int, classes: int) -> SegmentationNetwork:
    """Build the configured network with fresh weights (from torch's global generator), in training mode, on the CPU.

    Parameters
    ----------
    config : ModelConfig. Architecture, channels and layers; empty ``channels`` take the architecture's own.
    in_channels : int. Number of modalities.
    classes : int. Number of classes, the background included.

    Returns
    -------
    SegmentationNetwork. Maps an image (batch, in_channels, i, j, k) of any size to logits (batch, classes, i, j, k).
    Building again from its ``config`` gives the same network.

    Raises
    ------
    ConfigError
        If the architecture is unknown or an option has none of its values.
    """
    entry = architecture(config.model)
    network_class = getattr(importlib.import_module(entry.module), entry.class_name)
    network: SegmentationNetwork = network_class(config, in_channels, classes)
    return network
