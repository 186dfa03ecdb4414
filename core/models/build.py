"""Builds the network of a configuration."""

from __future__ import annotations

import importlib

from core.compute.convolution_precision import make_convolutions_safe
from core.config import ModelConfig
from core.errors import ConfigError
from core.models import architecture, check_packages
from core.models.blocks import SegmentationNetwork
from core.models.own_adapter import build_own


def build_model(config: ModelConfig, in_channels: int, classes: int) -> SegmentationNetwork:
    """Build the configured network with fresh weights (from torch's global generator), in training mode, on the CPU.

    Parameters
    ----------
    config : ModelConfig. Architecture, channels and layers; empty ``channels`` take the architecture's own.
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Returns
    -------
    SegmentationNetwork. Maps an image (batch, in_channels, i, j, k) of any size to logits (batch, classes, i, j, k), in
    training mode with named extras where it has any (:class:`core.models.blocks.NetworkOutput`). Building again from
    its ``config`` gives the same network.

    Raises
    ------
    ConfigError
        If the architecture is unknown, does not take so many modalities, or needs a package that is not installed.
    """
    entry = architecture(config.model)
    if entry.max_in_channels is not None and in_channels > entry.max_in_channels:
        raise ConfigError(
            f"model: {entry.name} takes at most {entry.max_in_channels} modalities, got {in_channels}; choose fewer "
            "(modalities), or another network"
        )
    check_packages(entry)
    network: SegmentationNetwork
    if entry.own:
        network = build_own(entry, entry.resolve(config), in_channels, classes)
    else:
        network_class = getattr(importlib.import_module(entry.module), entry.class_name)
        network = network_class(entry.resolve(config), in_channels, classes)
    make_convolutions_safe(network)
    return network
