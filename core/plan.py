"""Decides what a configuration leaves open from the data and the device, and estimates what the run will cost.

Nothing here needs torch, so the Train page can show the plan before anything starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.config import TrainConfig
from core.models import architecture
from core.models.cost import cost
from core.resample import resampled_shape

MOST_VOXELS = {"cpu": 64**3, "cuda": 128**3}  # of a sub-volume that is fitted to the data
LEAST_SIDE = 8  # of a sub-volume, in voxels, as in the configuration
WORKSPACE = 1.3  # on top of kept activations: gradients in flight, convolution workspaces
ASSUMED_GFLOPS = {
    "cpu": 120.0,
    "cuda": 40_000.0,
}  # sustained in bf16; a rough guess that only the estimate of time uses


@dataclass(frozen=True)
class Plan:
    """What will happen.

    Attributes
    ----------
    config : the configuration with sub-volume and channels decided.
    spacing_mm : voxel size that every subject is brought to, or ``None`` for each one's own.
    parameters : of the network.
    gflop : of a training step for one sub-volume, 1e9 operations.
    step_bytes : estimate of the memory that a training step takes on the device.
    data_bytes : images and labels of all subjects on the device.
    steps_per_epoch : optimizer steps.
    epoch_s : rough guess of the seconds that an epoch takes.
    """

    config: TrainConfig
    spacing_mm: tuple[float, float, float] | None
    parameters: int
    gflop: float
    step_bytes: int
    data_bytes: int
    steps_per_epoch: int
    epoch_s: float


def plan(
    config: TrainConfig,
    *,
    shapes: Sequence[tuple[int, int, int]],
    spacings_mm: Sequence[tuple[float, float, float]],
    in_channels: int,
    classes: int,
    device: str = "cpu",
) -> Plan:
    """Fill in a configuration for data of these shapes and spacings (one per subject, RAS order).

    ``device`` is "cpu" or "cuda".
    """
    spacing = target_spacing(config, spacings_mm)
    working = [
        shape if spacing is None else resampled_shape(shape, own, spacing)
        for shape, own in zip(shapes, spacings_mm, strict=True)
    ]
    channels = config.model.channels or architecture(config.model.model).channels
    divisor = 2 ** (len(channels) - 1)
    size = config.sampling.sub_volume or fit_sub_volume(_median_shape(working), divisor, MOST_VOXELS[device])
    decided = config.with_values({"sub_volume": tuple(size), "channels": channels})
    bytes_per_value = 4 if config.run.precision == "fp32" else 2
    per_volume = cost(decided.model, in_channels, classes, _triple(size), bytes_per_value)
    batch = config.sampling.batch_size
    steps = math.ceil(config.sampling.samples_train / batch)
    image_bytes = 2 if device == "cuda" else 4
    return Plan(
        config=decided,
        spacing_mm=spacing,
        parameters=per_volume.parameters,
        gflop=per_volume.training_gflop,
        step_bytes=int(WORKSPACE * batch * per_volume.activation_bytes + 16 * per_volume.parameters),
        data_bytes=sum(math.prod(shape) * (image_bytes * in_channels + 1) for shape in working),
        steps_per_epoch=steps,
        epoch_s=steps * batch * per_volume.training_gflop / ASSUMED_GFLOPS[device],
    )


def target_spacing(
    config: TrainConfig, spacings_mm: Sequence[tuple[float, float, float]]
) -> tuple[float, float, float] | None:
    """The voxel size to resample to: the one given, the median over subjects, or ``None`` for no resampling."""
    if config.data.spacing_mm:
        return _triple_of_floats(config.data.spacing_mm)
    if config.data.resample == "none" or not spacings_mm:
        return None
    return _triple_of_floats([_median([s[axis] for s in spacings_mm]) for axis in range(3)])


def fit_sub_volume(shape: tuple[int, int, int], divisor: int, most_voxels: int) -> tuple[int, int, int]:
    """The sub-volume for a typical subject: each side the multiple of ``divisor`` that is nearest to the subject's (the
    lower of two: it had better lie inside), at least 8, and at most ``most_voxels`` in all; the longest side is
    shortened first, so it tends to a cube."""
    least = math.ceil(LEAST_SIDE / divisor) * divisor
    size = [max(least, (n + (divisor - 1) // 2) // divisor * divisor) for n in shape]
    while math.prod(size) > most_voxels and max(size) > least:
        size[size.index(max(size))] -= divisor
    return size[0], size[1], size[2]


def _median_shape(shapes: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    i, j, k = (math.ceil(_median([float(s[axis]) for s in shapes])) for axis in range(3))
    return i, j, k


def _median(values: Sequence[float]) -> float:
    """The lower median: always a value that occurs."""
    return sorted(values)[(len(values) - 1) // 2]


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    i, j, k = values
    return i, j, k


def _triple_of_floats(values: Sequence[float]) -> tuple[float, float, float]:
    i, j, k = values
    return float(i), float(j), float(k)
