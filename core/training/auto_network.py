"""The network and the sub-volume that the preset ``auto`` chooses: the widest U-Net that the steps within the time
suffice for.

Like :mod:`core.training.plan`, the module does not import torch, so that the Train page can show the choice.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from core.config import ModelConfig, TrainConfig
from core.formatting import format_count, format_size
from core.inference.tile_grid import number_of_tiles
from core.models import architecture, resolve, size_divisor
from core.presets import preset
from core.training.plan import DEVICE_KINDS, fit_sub_volume, median_shape
from core.training_place import TrainingPlace
from core.types import Size3, SpacingMm

FORWARD_SHARE = 1 / 3  # of the operations of a training step, in its forward pass
MAX_VALIDATION_SHARE = 0.15  # of a time budget, for whole volumes at its end
VALIDATIONS_SHARE = 0.05  # of a time budget, for all other validations
LEAST_STEPS = 600  # below which a smaller sub-volume, for more steps, is worth more than a larger one
MIN_SHRUNK_SIDE = 32  # of a sub-volume that is made smaller for more steps, in voxels


@dataclass(frozen=True)
class Work:
    """The data of a run, and where it trains.

    Attributes
    ----------
    shapes, spacings_mm : sequence of tuple. Voxels and voxel size of each labelled subject along i, j, k.
    train, held_out : int. Number of subjects to train and to validate on.
    place : TrainingPlace. The device, and the measured speed of earlier runs there.
    """

    shapes: tuple[Size3, ...]
    spacings_mm: tuple[SpacingMm, ...]
    train: int
    held_out: int
    place: TrainingPlace = TrainingPlace()


@dataclass(frozen=True)
class Width:
    """A width of the U-Net that ``auto`` chooses from.

    Attributes
    ----------
    base : str. Preset whose network it is.
    channels : tuple of int. Channels per level.
    kflop_per_voxel : float. Operations of a training step for each voxel of a sub-volume of 64x64x64, in 1000; traced
        (``tests/core/training/test_auto_preset.py`` compares them).
    least_steps : int. Training steps from which it is better than the one before.
    """

    base: str
    channels: tuple[int, ...]
    kflop_per_voxel: float
    least_steps: int

    @property
    def values(self) -> dict[str, Any]:
        """The values of the configuration's fields about the network."""
        model = dataclasses.asdict(preset(self.base).model) | {"channels": self.channels}
        return {name: value for name, value in model.items() if name != "model"}


WIDTHS = (
    Width("fast", (8, 16, 32, 64), 85, 0),
    Width("thorough", (16, 32, 64, 128), 326, 2_500),
    Width("thorough", (32, 64, 128, 256, 320), 1_442, 20_000),
)


@dataclass(frozen=True)
class Choice:
    """Values of some fields, with the reason.

    Attributes
    ----------
    topic, text : str. Subject of the choice, and its reason.
    values : dict. Values by field name.
    stated : tuple of str. Fields of them that were given another value, which the reason states.
    """

    topic: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    stated: tuple[str, ...] = ()


@dataclass(frozen=True)
class FittedNetwork:
    """The network, its sub-volume, and the training that fits into the time.

    Attributes
    ----------
    steps : float. Optimizer steps.
    passes : float. Voxels of all sub-volumes over those of the training subjects.
    training_s : float. Estimated duration of these steps.
    validation_s : float. Estimated duration of one validation on whole volumes.
    volume_s : float. Estimated duration of the prediction of one of them, here.
    """

    network: Choice
    sub_volume: Choice
    steps: float
    passes: float
    training_s: float
    validation_s: float
    volume_s: float


def fit_network(
    config: TrainConfig,
    work: Work,
    shapes: list[Size3],
    given: Mapping[str, Any] = MappingProxyType({}),
    initial: ModelConfig | None = None,
) -> FittedNetwork:
    """The widest network that the steps suffice for, or that of the initial weights, and its sub-volume.

    Parameters
    ----------
    config : TrainConfig. What is given, but for ``given``.
    work : Work. Data and device.
    shapes : list of tuple. Voxels of each subject at the voxel size of training.
    given : mapping. Values that are given, by field name. With those of the network in the place of what is chosen,
        sub-volume, speed and steps are those of the network that trains.
    initial : ModelConfig or None. Network of the initial weights, under its first name. Where ``given`` has another
        ``model``, that one is fitted; of the initial network only the name stays in the choice, as what was replaced.
    """
    values: dict[str, Any]
    kept: dict[str, Any] = {}  # the network of the initial weights
    if initial is not None:
        name = given.get("model", initial.model)
        if architecture(name).name == initial.model:
            kept = dataclasses.asdict(initial)
            if len(given.get("channels", initial.channels)) != len(initial.channels):
                kept["convolutions"] = ()  # one number per level
        config = config.with_values({**kept, "model": name})
    given = {name: value for name, value in given.items() if name in WIDTHS[0].values}
    source = "as given" if "channels" in given else "those of the initial weights"
    other = architecture(config.model.model).name != "unet3d"

    def estimate(values: Mapping[str, Any], kflop_per_voxel: float) -> _Estimate:
        model = config.with_values(values).model
        largest = DEVICE_KINDS[work.place.device].sub_volume_voxels
        size = config.sampling.sub_volume or fit_sub_volume(median_shape(shapes), size_divisor(model), largest)
        i, j, k = size
        return _Estimate(config, work, tuple(shapes), kflop_per_voxel, (i, j, k))

    def of_width(width: Width) -> _Estimate:
        return estimate(width.values, width.kflop_per_voxel)

    if kept or other:
        values = kept or {"channels": (), "convolutions": (), "full_resolution": "level"}
        kflop = WIDTHS[1].kflop_per_voxel
        widths = f"of {_channels(given['channels'])} channels" if given.get("channels") else "with its own widths"
        text = f"the given {config.model.model}, {widths}"
        if kept:
            text = f"that of the initial weights, {config.model.model}"
            text += f", {widths} as given" if "channels" in given else ""
        text += "; its speed is assumed"
    else:
        width = next(w for w in reversed(WIDTHS) if of_width(w).steps >= w.least_steps)
        values, kflop, text = width.values, width.kflop_per_voxel, _network_text(width, of_width)
    model = config.with_values({**values, **given}).model
    scaled = not other and ("channels" in given or bool(kept))
    channels = resolve(model).channels
    fitted = estimate({**values, **given}, _scaled_kflop_per_voxel(channels) if scaled else kflop)
    if scaled:
        text = f"U-Net of {_channels(channels)} channels, {source}: {_fitting(fitted)}"
    smaller = _shrunk(fitted, size_divisor(model))
    sub_volume = Choice(
        "Sub-volume", f"{format_size(fitted.size)} voxels, fitted to the typical subject", {"sub_volume": ()}
    )
    if smaller.size != fitted.size:
        text_of_size = (
            f"{format_size(smaller.size)} voxels instead of {format_size(fitted.size)}, for about "
            f"{format_count(round_number(smaller.steps), 'step')} instead of {round_number(fitted.steps):,}"
        )
        sub_volume = Choice("Sub-volume", text_of_size, {"sub_volume": smaller.size})
    if initial is not None:
        values = {**values, "model": initial.model}
    stated = ("model", "channels") if "channels" in given else ("model",)
    network = Choice("Network", text, values, stated)
    training_s = smaller.steps * smaller.step_s
    seconds = training_s, smaller.validation_s, smaller.volume_s
    return FittedNetwork(network, sub_volume, smaller.steps, smaller.passes, *seconds)


def round_number(number: float) -> int:
    """A number to two significant digits."""
    return int(float(f"{number:.2g}")) if number >= 1 else 1


@dataclass(frozen=True)
class _Estimate:
    """Estimated speed and duration of training with a width of the network and a sub-volume size."""

    config: TrainConfig
    work: Work
    shapes: tuple[Size3, ...]
    kflop_per_voxel: float
    size: Size3

    @property
    def sub_volume_s(self) -> float:
        """Duration of training on one sub-volume."""
        gflop = self.kflop_per_voxel * math.prod(self.size) / 1e6
        return DEVICE_KINDS[self.work.place.device].sub_volume_s(gflop) * self.work.place.measured.expected

    @property
    def step_s(self) -> float:
        """Duration of an optimizer step."""
        return self.sub_volume_s * self.config.sub_volumes_per_step / self.config.run.devices

    @property
    def validation_s(self) -> float:
        """Duration of one validation on whole volumes in tiles."""
        return self.work.held_out * self.volume_s

    @property
    def volume_s(self) -> float:
        """Duration of the prediction of a whole volume in tiles."""
        place = self.work.place
        kind = DEVICE_KINDS[place.device]
        tile_s = self.kflop_per_voxel * math.prod(self.size) / 1e6 * FORWARD_SHARE / kind.gflops
        overlap = self.config.validation.overlap
        tiles = [number_of_tiles(shape, self.size, overlap) for shape in self.shapes]
        return sum(tiles) / max(len(tiles), 1) * tile_s * place.measured.expected

    @property
    def steps(self) -> float:
        """Optimizer steps that fit into the time budget, or those of the configured epochs."""
        run = self.config.run
        if not run.minutes:
            return run.epochs * self.config.sampling.samples_train / self.config.sub_volumes_per_step
        budget_s = run.minutes * 60
        share = VALIDATIONS_SHARE
        if self.validation_s <= MAX_VALIDATION_SHARE * budget_s:
            share += self.validation_s / budget_s
        return (1 - share) * budget_s / self.step_s

    @property
    def passes(self) -> float:
        """Voxels of all sub-volumes, without padding around a subject, over those of the training subjects."""
        subjects = max(len(self.shapes), 1)
        voxels = sum(map(math.prod, self.shapes)) / subjects * max(self.work.train, 1)
        inside = sum(math.prod(map(min, shape, self.size)) for shape in self.shapes) / subjects
        return self.steps * self.config.sub_volumes_per_step * inside / max(voxels, 1)


def _scaled_kflop_per_voxel(channels: tuple[int, ...]) -> float:
    """Operations as those of the nearest width, which grow with the square of the channels at full resolution."""
    nearest = min(WIDTHS, key=lambda width: abs(math.log(channels[0] / width.channels[0])))
    return nearest.kflop_per_voxel * (channels[0] / nearest.channels[0]) ** 2


def _fitting(estimate: _Estimate) -> str:
    steps = round_number(estimate.steps)
    return f"about {format_count(steps, 'step')} fit{'s' if steps == 1 else ''}"


def _network_text(width: Width, estimate: Callable[[Width], _Estimate]) -> str:
    text = f"U-Net of {_channels(width.channels)} channels: {_fitting(estimate(width))}"
    position = WIDTHS.index(width) + 1
    if position == len(WIDTHS):
        return text
    wider = WIDTHS[position]
    return (
        f"{text}; one of {_channels(wider.channels)} would be better from about {wider.least_steps:,} steps on, of "
        f"which {round_number(estimate(wider).steps):,} fit"
    )


def _shrunk(estimate: _Estimate, divisor: int) -> _Estimate:
    """The sub-volume made smaller, its longest side first, until enough steps fit into a time budget."""
    if not estimate.config.run.minutes or estimate.config.sampling.sub_volume:
        return estimate
    least = math.ceil(MIN_SHRUNK_SIDE / divisor) * divisor
    while estimate.steps < LEAST_STEPS and max(estimate.size) > least:
        size = list(estimate.size)
        size[size.index(max(size))] -= divisor
        i, j, k = size
        estimate = dataclasses.replace(estimate, size=(i, j, k))
    return estimate


def _channels(channels: tuple[int, ...]) -> str:
    return "-".join(map(str, channels))
