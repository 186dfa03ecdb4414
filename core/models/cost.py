"""Counts the parameters and operations of a network without building it, and without torch.

Both counts are exact. Memory is estimated in :mod:`core.models.memory`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.config import ModelConfig
from core.models import size_divisor
from core.models.layers import list_layers
from core.types import Size3, triple

TRAINING_FACTOR = 3  # forward pass, gradient of the input, gradient of the weights


@dataclass(frozen=True)
class Cost:
    """Cost of a network.

    Attributes
    ----------
    parameters : int
    forward_gflop : float. 1e9 operations of one forward pass of one sub-volume; a multiply-add is two.
    """

    parameters: int
    forward_gflop: float

    @property
    def training_gflop(self) -> float:
        """1e9 operations of a forward and backward pass of one sub-volume."""
        return TRAINING_FACTOR * self.forward_gflop


def network_cost(config: ModelConfig, in_channels: int, classes: int, size: Size3) -> Cost:
    """Count a network's parameters, and its operations for one sub-volume.

    Parameters
    ----------
    config : ModelConfig. The network.
    in_channels, classes : int. Number of modalities, and of classes with the background.
    size : tuple of int. Sub-volume size in voxels (i, j, k).

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    padded = padded_size(size, size_divisor(config))
    layers = list_layers(config, in_channels, classes)
    operations = sum(layer.multiply_adds(math.prod(n >> layer.level for n in padded)) for layer in layers)
    return Cost(sum(layer.parameters for layer in layers), 2 * operations / 1e9)


def padded_size(size: Size3, divisor: int) -> Size3:
    """The size to which a network pads an image: each side rounded up to a multiple of ``divisor``."""
    return triple([math.ceil(n / divisor) * divisor for n in size])
