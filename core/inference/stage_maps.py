"""Feature maps of a stage of a network over a whole volume: request and result, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.errors import ConfigError
from core.types import SpacingMm

STRONGEST = 8  # channels that are given where none are asked for
MAX_CHANNELS = 32  # of a request; all are in memory together


@dataclass(frozen=True)
class StageRequest:
    """Which feature maps are asked for; the mean over all channels is always among them.

    Attributes
    ----------
    stage : str. Name of the stage (:func:`core.models.architecture.stage_names`).
    channels : tuple of int. Channels, counted from 0.
    strongest : bool. Whether the ``STRONGEST`` channels with the largest standard deviation in the tile at the centre
        of the foreground are asked for, too.

    Raises
    ------
    ConfigError
        If too many channels are asked for.
    """

    stage: str
    channels: tuple[int, ...] = ()
    strongest: bool = True

    def __post_init__(self) -> None:
        if len(set(self.channels)) > MAX_CHANNELS:
            raise ConfigError(
                f"{self.stage}: expected at most {MAX_CHANNELS} channels at a time, got {len(set(self.channels))}; ask "
                "for some of them first"
            )


@dataclass(frozen=True)
class StageMaps:
    """Feature maps of a stage on the grid of the image: each voxel has the value of the voxel of the stage in which its
    centre lies, in the tile whose centre is nearest; 0 where the network was not run, outside the foreground.

    Attributes
    ----------
    stage : str. Name of the stage.
    channel_count : int. Number of channels of the stage.
    voxel_mm : tuple of float. Voxel size of the stage along (i, j, k).
    mean : ndarray, float32, shape (i, j, k). Mean of the absolute activations of all channels.
    channels : mapping of int to ndarray, float32, shape (i, j, k). Activations by channel, counted from 0.
    """

    stage: str
    channel_count: int
    voxel_mm: SpacingMm
    mean: np.ndarray
    channels: Mapping[int, np.ndarray]
