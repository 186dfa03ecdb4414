"""Decides what a configuration leaves open from the data and the device, and estimates what the run will cost.

Nothing here needs torch, so the Train page can show the plan before anything starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.config import TrainConfig
from core.formatting import format_bytes
from core.imaging.resample import resampled_shape
from core.models import resolve, size_divisor
from core.models.cost import network_cost
from core.models.memory import PassShape, training_bytes
from core.types import Size3, SpacingMm, triple

MOST_VOXELS = {"cpu": 64**3, "cuda": 128**3}  # of a sub-volume that is fitted to the data
LEAST_SIDE = 8  # of a sub-volume, in voxels, as in the configuration
IMAGE_BYTES, LABEL_BYTES = 2, 1  # of a voxel that training keeps at hand: half precision, and a class
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
    step_bytes : estimate of the memory that a training step takes on the device, with weights and optimizer; measured
        to be mostly right within 20 % on a CPU (:mod:`core.models.memory`).
    data_bytes : images and labels of all subjects on the device.
    steps_per_epoch : optimizer steps.
    epoch_s : rough guess of the seconds that an epoch takes.
    """

    config: TrainConfig
    spacing_mm: SpacingMm | None
    parameters: int
    gflop: float
    step_bytes: int
    data_bytes: int
    steps_per_epoch: int
    epoch_s: float


def plan(
    config: TrainConfig,
    *,
    shapes: Sequence[Size3],
    spacings_mm: Sequence[SpacingMm],
    in_channels: int,
    classes: int,
    device: str = "cpu",
) -> Plan:
    """Fill in a configuration for data of these shapes and spacings (one per subject, RAS order).

    ``device`` is "cpu" or "cuda". A precision of "auto" is taken to be bf16.
    """
    spacing = target_spacing(config, spacings_mm)
    working = [
        shape if spacing is None else resampled_shape(shape, own, spacing)
        for shape, own in zip(shapes, spacings_mm, strict=True)
    ]
    channels = resolve(config.model).channels
    divisor = size_divisor(config.model)
    size = config.sampling.sub_volume or fit_sub_volume(_median_shape(working), divisor, MOST_VOXELS[device])
    decided = config.with_values({"sub_volume": tuple(size), "channels": channels})
    per_volume = network_cost(decided.model, in_channels, classes, triple(size))
    steps = math.ceil(config.sampling.samples_train / config.sub_volumes_per_step)
    epoch_gflop = steps * config.sub_volumes_per_step / config.run.devices * per_volume.training_gflop
    return Plan(
        config=decided,
        spacing_mm=spacing,
        parameters=per_volume.parameters,
        gflop=per_volume.training_gflop,
        step_bytes=step_bytes(decided, in_channels, classes, device),
        data_bytes=sum(math.prod(shape) * (IMAGE_BYTES * in_channels + LABEL_BYTES) for shape in working),
        steps_per_epoch=steps,
        epoch_s=epoch_gflop / ASSUMED_GFLOPS[device],
    )


def step_bytes(config: TrainConfig, in_channels: int, classes: int, device: str) -> int:
    """Estimate of the memory that a training step takes; the configuration's sub-volume is decided."""
    precision = "fp32" if config.run.precision == "fp32" else "bf16"
    size, batch = triple(config.sampling.sub_volume), config.sampling.batch_size
    shape = PassShape(in_channels, classes, size, batch, precision, device)
    return training_bytes(config.model, config.loss, config.optim, shape)


def suggest(config: TrainConfig, *, in_channels: int, classes: int, memory_bytes: int, device: str = "cpu") -> str:
    """What would fit into so much memory, by the estimate: the largest smaller batch, and the largest sub-volume.

    Parameters
    ----------
    config : with the sub-volume decided.
    memory_bytes : that a training step may take.
    device : "cpu" or "cuda".

    Returns
    -------
    Words such as "batch_size 1 would take about 3.1 GB; sub_volume 64x64x48 about 2.2 GB": the sub-volume for the
    present batch where a smaller batch would do, else for a batch of one. Where nothing fits: to take fewer channels.
    """

    def needed(**values: object) -> int:
        return step_bytes(config.with_values(values), in_channels, classes, device)

    found = []
    batch = _largest_batch(config.sampling.batch_size - 1, lambda n: needed(batch_size=n) <= memory_bytes)
    if batch:
        found.append(f"batch_size {batch} would take about {format_bytes(needed(batch_size=batch))}")
    kept = config.sampling.batch_size if batch else 1
    size = _largest_size(config, lambda size: needed(batch_size=kept, sub_volume=size) <= memory_bytes)
    if size:
        smaller = "" if kept == config.sampling.batch_size else " and batch_size 1"
        verb = "about" if found else "would take about"
        took = format_bytes(needed(batch_size=kept, sub_volume=size))
        found.append(f"sub_volume {'x'.join(map(str, size))}{smaller} {verb} {took}")
    return "; ".join(found) or "no smaller sub_volume or batch_size would fit either: choose fewer channels"


def _largest_batch(most: int, fits: Callable[[int], bool]) -> int:
    """The largest batch up to ``most`` that fits, by bisection; 0 if none does."""
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        low, most = (middle, most) if fits(middle) else (low, middle - 1)
    return low


def _largest_size(config: TrainConfig, fits: Callable[[Size3], bool]) -> Size3 | None:
    """The sub-volume made smaller, its longest side first, until it fits."""
    divisor = size_divisor(config.model)
    least = math.ceil(LEAST_SIDE / divisor) * divisor
    size = list(config.sampling.sub_volume)
    while max(size) > least:
        longest = size.index(max(size))
        size[longest] = max(least, (size[longest] - 1) // divisor * divisor)
        if fits(triple(size)):
            return triple(size)
    return None


def spoils_bf16(config: TrainConfig) -> bool:
    """Whether training in bf16 on a CPU would go wrong: the deepest level would have two voxels along i.

    oneDNN (as in torch 2.13) gives gradients of kernels there that are memory as it was found.
    """
    size = config.sampling.sub_volume
    divisor = size_divisor(config.model)
    deepest = [-(-n // divisor) for n in size]
    single = max(deepest) == 1  # the longest axis is then padded to two: see core.models.blocks.pad_to_divisor
    return deepest[0] == 2 or (single and size.index(max(size)) == 0)


def target_spacing(config: TrainConfig, spacings_mm: Sequence[SpacingMm]) -> SpacingMm | None:
    """The voxel size to resample to: the one given, the median over subjects, or ``None`` for no resampling."""
    if config.data.spacing_mm:
        return _triple_of_floats(config.data.spacing_mm)
    if config.data.resample == "none" or not spacings_mm:
        return None
    return _triple_of_floats([_median([s[axis] for s in spacings_mm]) for axis in range(3)])


def fit_sub_volume(shape: Size3, divisor: int, most_voxels: int) -> Size3:
    """The sub-volume for a typical subject: each side the multiple of ``divisor`` that is nearest to the subject's (the
    lower of two: it had better lie inside), at least 8, and at most ``most_voxels`` in all; the longest side is
    shortened first, so it tends to a cube."""
    least = math.ceil(LEAST_SIDE / divisor) * divisor
    size = [max(least, (n + (divisor - 1) // 2) // divisor * divisor) for n in shape]
    while math.prod(size) > most_voxels and max(size) > least:
        size[size.index(max(size))] -= divisor
    return size[0], size[1], size[2]


def _median_shape(shapes: Sequence[Size3]) -> Size3:
    i, j, k = (math.ceil(_median([float(s[axis]) for s in shapes])) for axis in range(3))
    return i, j, k


def _median(values: Sequence[float]) -> float:
    """The lower median: always a value that occurs."""
    return sorted(values)[(len(values) - 1) // 2]


def _triple_of_floats(values: Sequence[float]) -> tuple[float, float, float]:
    i, j, k = values
    return float(i), float(j), float(k)
