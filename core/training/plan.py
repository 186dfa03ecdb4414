"""Resolves the open values of a configuration from the data and the device, and forecasts the run from the cost of a
step.

The module does not import torch, so that the Train page can show the plan before a run starts. The cost of a step is
traced by :mod:`core.training.step_cost`, which does.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.config import TrainConfig, field_specs
from core.formatting import format_bytes, format_count, format_size
from core.imaging.normalise import Normaliser
from core.imaging.resample import resampled_shape
from core.inference.tile_grid import number_of_tiles
from core.models import input_channels, resolve, size_divisor
from core.types import Size3, SpacingMm, triple

MIN_SIDE = 8  # of a sub-volume, in voxels, as in the configuration
IMAGE_BYTES, LABEL_BYTES = 2, 1  # per voxel in training: float16 and uint8
BOTH_WAYS = 2.5  # durations of a validation in tiles, for one in tiles and one in a single pass
WEIGHT_BYTES = 4  # of a parameter in a checkpoint, as float32


@dataclass(frozen=True)
class DeviceKind:
    """Assumptions about a kind of device before a run has measured it.

    Attributes
    ----------
    sub_volume_voxels : int. Upper limit of a sub-volume that is fitted to the data.
    gflops : float. Sustained GFLOP/s in mixed precision, a rough guess for the estimated duration.
    overhead_s : float. Seconds per sub-volume besides the network: sampling, augmentation, launches.
    uncertainty : tuple of float. Shortest and longest duration as multiples of the estimated one.
    """

    sub_volume_voxels: int
    gflops: float
    overhead_s: float
    uncertainty: tuple[float, float]

    def sub_volume_s(self, training_gflop: float) -> float:
        """Estimated duration of training on one sub-volume in seconds."""
        return training_gflop / self.gflops + self.overhead_s


DEVICE_KINDS = {
    "cpu": DeviceKind(64**3, 120.0, 0.03, (0.7, 7.0)),
    "cuda": DeviceKind(128**3, 40_000.0, 0.003, (0.5, 5.0)),
    "mps": DeviceKind(96**3, 1_500.0, 0.02, (0.2, 10.0)),  # guessed: nothing was measured on one
    "xpu": DeviceKind(128**3, 10_000.0, 0.005, (0.2, 10.0)),  # guessed: nothing was measured on one
}


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step.

    Attributes
    ----------
    parameters : int. Parameters of the network.
    forward_gflop : float. Operations of a forward pass per sub-volume, in 1e9; a multiply-add is two.
    training_gflop : float. Operations of a training step per sub-volume, in 1e9.
    step_bytes : int. Estimated peak of the device memory, with weights and optimizer.
    """

    parameters: int
    forward_gflop: float
    training_gflop: float
    step_bytes: int


def kept_epochs_in_words(config: TrainConfig, parameters: int) -> str:
    """Number and size of the checkpoints that a run keeps of its epochs; empty where it keeps none.

    Parameters
    ----------
    config : TrainConfig.
    parameters : int. Parameters of the network, of four bytes each.
    """
    every, size = config.run.keep_every, format_bytes(WEIGHT_BYTES * parameters)
    if not every:
        return ""
    if config.run.minutes:  # which end after an unknown number of epochs
        return f"{size} every {format_count(every, 'epoch')}"
    count = config.run.epochs // every
    return f"{format_count(count, 'checkpoint')} of {size}, {format_bytes(WEIGHT_BYTES * parameters * count)} in all"


@dataclass(frozen=True)
class TrainingPlan:
    """A resolved configuration and the size of its data.

    Attributes
    ----------
    config : TrainConfig. Configuration with sub-volume size and channels resolved.
    spacing_mm : tuple of float, or None. Voxel size that subjects are resampled to; ``None`` for no resampling.
    modalities, classes : int. Number of modalities, and of output channels: classes with the background, or regions.
    device : str. Kind of device, as torch names it: a key of ``DEVICE_KINDS``.
    data_bytes : int. Size of the images and labels of all subjects on the device.
    steps_per_epoch : int. Optimizer steps per epoch.
    normaliser : Normaliser. Intensity normalisation; that of every run before its training subjects are read.
    """

    config: TrainConfig
    spacing_mm: SpacingMm | None
    modalities: int
    classes: int
    device: str
    data_bytes: int
    steps_per_epoch: int
    normaliser: Normaliser = field(default_factory=lambda: Normaliser(()))

    @property
    def in_channels(self) -> int:
        """Input channels of the network; errors are those of :func:`core.models.input_channels`."""
        return input_channels(self.config, self.modalities)

    def epoch_s(self, cost: StepCost) -> float:
        """Rough estimate of the duration of an epoch, from the cost of its steps."""
        sub_volumes = self.steps_per_epoch * self.config.sub_volumes_per_step / self.config.run.devices
        return sub_volumes * DEVICE_KINDS[self.device].sub_volume_s(cost.training_gflop)

    def validations_s(self, cost: StepCost, held_out: Sequence[Size3]) -> float:
        """Rough estimate of the duration of all validations of a run by epochs.

        Parameters
        ----------
        cost : StepCost. With the operations of a forward pass.
        held_out : sequence of tuple. Voxels of each held-out subject as trained on; without any nothing is validated.
        """
        run, validation, size = self.config.run, self.config.validation, triple(self.config.sampling.sub_volume)
        tiles = sum(number_of_tiles(shape, size, validation.overlap) for shape in held_out)
        whole_volumes = number_of_validations(run.epochs, validation.whole_every, validation.inference_mode)
        passes = whole_volumes * tiles * (2 if validation.mirror else 1)
        passes += run.epochs * self.config.sampling.samples_val if held_out else 0
        return passes * cost.forward_gflop / DEVICE_KINDS[self.device].gflops / run.devices

    def sub_volumes_per_s(self, cost: StepCost) -> float:
        """Estimated speed of training, over all devices."""
        return self.steps_per_epoch * self.config.sub_volumes_per_step / self.epoch_s(cost)

    def prepared_bytes(self, shapes: Mapping[str, Size3], spacings_mm: Mapping[str, SpacingMm]) -> list[int]:
        """Size of the image and label map of each subject as trained on, from those of its files."""
        resampled = resampled_shapes(list(shapes.values()), list(spacings_mm.values()), self.spacing_mm)
        return [math.prod(shape) * (IMAGE_BYTES * self.modalities + LABEL_BYTES) for shape in resampled]

    def with_normaliser(self, normaliser: Normaliser) -> TrainingPlan:
        """The plan with the intensity normalisation decided, also in its configuration where all channels share one."""
        methods = set(normaliser.methods)
        config = self.config.with_values({"normalisation": methods.pop()}) if len(methods) == 1 else self.config
        return replace(self, config=config, normaliser=normaliser)


def make_plan(
    config: TrainConfig,
    *,
    shapes: Sequence[Size3],
    spacings_mm: Sequence[SpacingMm],
    modalities: int,
    classes: int,
    device: str = "cpu",
) -> TrainingPlan:
    """Resolve a configuration for a data set.

    Parameters
    ----------
    config : TrainConfig. A precision of "auto" is taken as bf16.
    shapes, spacings_mm : sequence of tuple. Voxels and voxel size of each subject along i, j, k.
    modalities : int. Number of modalities.
    classes : int. Number of output channels: classes, background included, or regions.
    device : str. Kind of device, as torch names it.
    """
    spacing_mm = target_spacing(config, spacings_mm)
    resampled = resampled_shapes(shapes, spacings_mm, spacing_mm)
    divisor = size_divisor(config.model)
    size = config.sampling.sub_volume or fit_sub_volume(
        median_shape(resampled), divisor, DEVICE_KINDS[device].sub_volume_voxels
    )
    resolved = config.with_values({"sub_volume": tuple(size), "channels": resolve(config.model).channels})
    return TrainingPlan(
        config=resolved,
        spacing_mm=spacing_mm,
        modalities=modalities,
        classes=classes,
        device=device,
        data_bytes=sum(math.prod(shape) * (IMAGE_BYTES * modalities + LABEL_BYTES) for shape in resampled),
        steps_per_epoch=math.ceil(config.sampling.samples_train / config.sub_volumes_per_step),
    )


def number_of_validations(epochs: int, whole_every: int, inference_mode: str) -> float:
    """Validations of whole volumes in a run, with those at its end, as a number of ones in tiles; 0 without any."""
    at_end = BOTH_WAYS if inference_mode == "auto" else 1.0
    return (epochs - 1) // whole_every + at_end if whole_every else 0.0


def suggest_smaller(config: TrainConfig, memory_bytes: int, step_bytes: Callable[[TrainConfig], int]) -> str:
    """The largest smaller batch and the largest smaller sub-volume that fit into the memory, as a text.

    Parameters
    ----------
    config : TrainConfig. With the sub-volume size resolved.
    memory_bytes : int. Memory available for a training step.
    step_bytes : callable. Estimated memory of a training step of a configuration in bytes; called
        O(log n) times.

    Returns
    -------
    str. For example "batch_size 1 would take about 3.1 GB; sub_volume 64x64x48 about 2.2 GB". The sub-volume is for the
    current batch size if a smaller batch fits, else for batch size 1. If none fits, the advice to choose fewer
    channels.
    """

    @functools.cache
    def needed(batch_size: int, size: Size3) -> int:
        return step_bytes(config.with_values({"batch_size": batch_size, "sub_volume": size}))

    def first_that_fits(proposals: Sequence[tuple[int, Size3]]) -> tuple[int, Size3] | None:
        """The first of (batch size, sub-volume size), in descending order."""
        number = bisect_left(proposals, True, key=lambda proposal: needed(*proposal) <= memory_bytes)
        return proposals[number] if number < len(proposals) else None

    batch_size, size = config.sampling.batch_size, triple(config.sampling.sub_volume)
    suggestions = []
    smaller_batch = first_that_fits([(n, size) for n in range(batch_size - 1, 0, -1)])
    if smaller_batch:
        memory = format_bytes(needed(*smaller_batch))
        suggestions.append(f"batch_size {smaller_batch[0]} would take about {memory}")
    batch = batch_size if smaller_batch else 1
    smaller_size = first_that_fits([(batch, s) for s in _smaller_sizes(config)])
    if smaller_size:
        with_batch = "" if batch == batch_size else " and batch_size 1"
        verb = "about" if suggestions else "would take about"
        memory = format_bytes(needed(*smaller_size))
        suggestions.append(f"sub_volume {format_size(smaller_size[1])}{with_batch} {verb} {memory}")
    return "; ".join(suggestions) or "no smaller sub_volume or batch_size would fit either: choose fewer channels"


def _smaller_sizes(config: TrainConfig) -> Iterator[Size3]:
    """Smaller sub-volumes, in descending order, the longest side shortened first."""
    divisor = size_divisor(config.model)
    min_side = math.ceil(MIN_SIDE / divisor) * divisor
    size = list(config.sampling.sub_volume)
    while max(size) > min_side:
        longest = size.index(max(size))
        size[longest] = max(min_side, (size[longest] - 1) // divisor * divisor)
        yield triple(size)


def resampled_shapes(
    shapes: Sequence[Size3], spacings_mm: Sequence[SpacingMm], spacing_mm: SpacingMm | None
) -> list[Size3]:
    """Voxels of each subject at the voxel size of training; ``None`` for no resampling."""
    return [
        shape if spacing_mm is None else resampled_shape(shape, own, spacing_mm)
        for shape, own in zip(shapes, spacings_mm, strict=True)
    ]


def target_spacing(config: TrainConfig, spacings_mm: Sequence[SpacingMm]) -> SpacingMm | None:
    """Voxel size to resample to: the configured one, the median over subjects, or ``None`` for no resampling."""
    if config.data.spacing_mm:
        return _spacing(config.data.spacing_mm)
    if config.data.resample == "none" or not spacings_mm:
        return None
    return _spacing([_lower_median([s[axis] for s in spacings_mm]) for axis in range(3)])


def fit_sub_volume(shape: Size3, divisor: int, max_voxels: int) -> Size3:
    """Sub-volume size for a typical subject.

    Parameters
    ----------
    shape : tuple of int. Voxels of the subject along i, j, k.
    divisor : int. Each side is the multiple of it that is nearest to the subject's side (the lower one of two), at
        least 8, and at most the largest multiple that the configuration allows.
    max_voxels : int. Upper limit; the longest side is shortened first, so that large sub-volumes tend to cubes.
    """
    min_side = math.ceil(MIN_SIDE / divisor) * divisor
    limit = next(spec.maximum for spec in field_specs() if spec.name == "sub_volume")
    assert limit is not None
    max_side = int(limit) // divisor * divisor
    size = [min(max(min_side, (n + (divisor - 1) // 2) // divisor * divisor), max_side) for n in shape]
    while math.prod(size) > max_voxels and max(size) > min_side:
        size[size.index(max(size))] -= divisor
    return triple(size)


def median_shape(shapes: Sequence[Size3]) -> Size3:
    """Voxels of a typical subject."""
    return triple([math.ceil(_lower_median([float(s[axis]) for s in shapes])) for axis in range(3)])


def _lower_median(values: Sequence[float]) -> float:
    """The median; for an even number of values the lower one of the two in the middle."""
    return sorted(values)[(len(values) - 1) // 2]


def _spacing(values: Sequence[float]) -> SpacingMm:
    i, j, k = values
    return float(i), float(j), float(k)
