"""The preset ``auto``: a configuration for the time, the data and the device of a run, with a reason for each choice.

The choices come from two numbers: the training steps that fit into the time, and how often training passes over the
data in them. Their constants are measurements on two data sets on a CPU (benchmarks/NOTES.md).

Like :mod:`core.training.plan`, the module does not import torch, so that the Train page can show the choices.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.choices import DEVICE_WORDS
from core.config import TrainConfig, field_specs
from core.durations import TrainingPlace
from core.formatting import format_count, format_duration, format_size
from core.inference.tile_grid import number_of_tiles
from core.models import size_divisor
from core.presets import preset
from core.training.plan import DEVICE_KINDS, fit_sub_volume, median_shape, resampled_shapes, target_spacing
from core.types import Size3, SpacingMm

if TYPE_CHECKING:
    from core.datasets.splits import Labelled

FORWARD_SHARE = 1 / 3  # of the operations of a training step, in its forward pass
MAX_VALIDATION_SHARE = 0.15  # of a time budget, for whole volumes at its end
VALIDATIONS_SHARE = 0.05  # of a time budget, for all other validations
AVERAGED_SHARE = 0.1  # of the steps of a run, over which the weights are averaged
MIN_AVERAGED, MAX_AVERAGED = 33, 1000  # steps: a decay of 0.97, and of 0.999
LEAST_STEPS = 600  # below which a smaller sub-volume, for more steps, is worth more than a larger one
MIN_SHRUNK_SIDE = 32  # of a sub-volume that is made smaller for more steps, in voxels
# Augmentation grows with the logarithm of the passes over the data, between two presets.
LIGHT_PASSES, STRONG_PASSES = 16.0, 50.0
LIGHT, STRONG = "fast", "thorough"
# Fields that are chosen; where one is given, others follow from it.
OTHERS_FOLLOW = ("sub_volume", "batch_size", "accumulate")
AUGMENTATION = ("affine", "elastic", "intensity")


@dataclass(frozen=True)
class Work:
    """What a run is to do, and with what.

    Attributes
    ----------
    shapes, spacings_mm : sequence of tuple. Voxels and voxel size of each labelled subject along i, j, k.
    train, held_out : int. Number of subjects to train and to validate on.
    place : TrainingPlace. The device, and how fast it was.
    """

    shapes: tuple[Size3, ...]
    spacings_mm: tuple[SpacingMm, ...]
    train: int
    held_out: int
    place: TrainingPlace = TrainingPlace()


def work_of(
    config: TrainConfig,
    labelled: Labelled,
    shapes: tuple[Size3, ...],
    spacings_mm: tuple[SpacingMm, ...],
    place: TrainingPlace,
) -> Work:
    """The work of a run on labelled subjects, split as configured; the rest as in :class:`Work`.

    Raises
    ------
    UserError
        If the subjects cannot be split.
    """
    from core.datasets.splits import split_subjects  # loads nibabel

    split = split_subjects(labelled, config.split)
    return Work(shapes, spacings_mm, len(split.train), len(split.val), place)


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
    """Values of some fields, and why they have them.

    Attributes
    ----------
    topic, text : str. What is chosen, and the reason.
    values : dict. Values by field name.
    """

    topic: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """All choices of the preset for a run."""

    choices: tuple[Choice, ...]

    @property
    def values(self) -> dict[str, Any]:
        """Values by field name."""
        return {name: value for choice in self.choices for name, value in choice.values.items()}

    def apply(self, config: TrainConfig, given: Collection[str] = ()) -> TrainConfig:
        """A configuration with these choices and their reasons.

        Parameters
        ----------
        config : TrainConfig. Values that were given, and those of the preset before it knew the data.
        given : collection of str. Names of the fields that keep their value.
        """
        values = {name: value for name, value in self.values.items() if name not in given}
        return config.with_values({**values, "reasons": self.reasons(config, given)})

    def reasons(self, config: TrainConfig, given: Collection[str] = ()) -> tuple[str, ...]:
        """The reasons, one line each; a line also names the fields of its choice that were given another value."""
        values = config.values()
        flags = {spec.name: f"{spec.flag} {spec.format(values[spec.name])}" for spec in field_specs()}
        lines = []
        for choice in self.choices:
            replaced = [n for n, value in choice.values.items() if n in given and values[n] != value]
            instead = f"; given instead: {', '.join(flags[name] for name in replaced)}" if replaced else ""
            lines.append(f"{choice.topic}: {choice.text}{instead}")
        return tuple(lines)


def choose(config: TrainConfig, work: Work) -> Recipe:
    """The choices for a run.

    Parameters
    ----------
    config : TrainConfig. What is given: time budget or epochs, network, voxel size, number of devices, sub-volume,
        batch.
    work : Work. Data and device.
    """
    spacing_mm = target_spacing(config, work.spacings_mm)
    shapes = resampled_shapes(work.shapes, work.spacings_mm, spacing_mm)
    chosen = _choose_width(config, work, shapes)
    steps, passes = chosen.steps, chosen.passes
    return Recipe(
        (
            Choice("Time", _time_text(config, work, chosen)),
            chosen.network,
            chosen.sub_volume,
            Choice(
                "Batch", "one sub-volume, for as many steps as the time allows", {"batch_size": 1, "accumulate": 1}
            ),
            _augmentation(passes, work),
            Choice("Loss", "Dice and cross-entropy without the background, the best start on any classes", _of(LIGHT, (
                "loss", "include_background", "batch_dice",
            ))),
            Choice(
                "Schedule",
                "Muon; the learning rate is held for half of the time, then falls along a line to its end",
                _of(LIGHT, ("optimizer", "learning_rate", "momentum", "weight_decay", "lr_schedule", "warmup")),
            ),
            _average(steps),
            _validation(config, work, chosen),
        )
    )  # fmt: skip


# --- steps that fit, and the network ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chosen:
    """The network, its sub-volume, and what the time allows with them.

    Attributes
    ----------
    steps : float. Optimizer steps.
    passes : float. Voxels of all sub-volumes over those of the training subjects.
    training_s : float. Estimated duration of these steps.
    validation_s : float. Estimated duration of one validation on whole volumes.
    """

    network: Choice
    sub_volume: Choice
    steps: float
    passes: float
    training_s: float
    validation_s: float


@dataclass(frozen=True)
class _Pace:
    """What training with a width and a sub-volume would be."""

    config: TrainConfig
    work: Work
    shapes: tuple[Size3, ...]
    kflop_per_voxel: float
    size: Size3

    @property
    def sub_volume_s(self) -> float:
        gflop = self.kflop_per_voxel * math.prod(self.size) / 1e6
        return DEVICE_KINDS[self.work.place.device].sub_volume_s(gflop) * self.work.place.measured.expected

    @property
    def step_s(self) -> float:
        return self.sub_volume_s * self.config.sub_volumes_per_step / self.config.run.devices

    @property
    def validation_s(self) -> float:
        """Of whole volumes in tiles."""
        place = self.work.place
        kind = DEVICE_KINDS[place.device]
        tile_s = self.kflop_per_voxel * math.prod(self.size) / 1e6 * FORWARD_SHARE / kind.gflops
        overlap = self.config.validation.overlap
        tiles = [number_of_tiles(shape, self.size, overlap) for shape in self.shapes]
        return self.work.held_out * sum(tiles) / max(len(tiles), 1) * tile_s * place.measured.expected

    @property
    def steps(self) -> float:
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
        voxels = sum(map(math.prod, self.shapes)) / max(len(self.shapes), 1) * max(self.work.train, 1)
        return self.steps * self.config.sub_volumes_per_step * math.prod(self.size) / max(voxels, 1)


def _choose_width(config: TrainConfig, work: Work, shapes: list[Size3]) -> _Chosen:
    """The widest network that the steps suffice for, and its sub-volume."""
    given = config.model.model != "unet3d"

    def pace(width: Width) -> _Pace:
        model = config.model if given else config.with_values(width.values).model
        largest = DEVICE_KINDS[work.place.device].sub_volume_voxels
        size = config.sampling.sub_volume or fit_sub_volume(median_shape(shapes), size_divisor(model), largest)
        i, j, k = size
        return _Pace(config, work, tuple(shapes), width.kflop_per_voxel, (i, j, k))

    if given:
        width, text = WIDTHS[1], f"{config.model.model}, as given, with its own widths; its speed is assumed"
        values: dict[str, Any] = {"channels": (), "convolutions": (), "full_resolution": "level"}
    else:
        width = next(w for w in reversed(WIDTHS) if pace(w).steps >= w.least_steps)
        text, values = _network_text(width, pace), width.values
    fitted = pace(width)
    smaller = _shrunk(fitted, size_divisor(config.with_values(values).model))
    sub_volume = Choice(
        "Sub-volume", f"{format_size(fitted.size)} voxels, fitted to the typical subject", {"sub_volume": ()}
    )
    if smaller.size != fitted.size:
        text_of_size = (
            f"{format_size(smaller.size)} voxels instead of {format_size(fitted.size)}, for about "
            f"{_round(smaller.steps):,} steps instead of {_round(fitted.steps):,}"
        )
        sub_volume = Choice("Sub-volume", text_of_size, {"sub_volume": smaller.size})
    network = Choice("Network", text, values)
    training_s = smaller.steps * smaller.step_s
    return _Chosen(network, sub_volume, smaller.steps, smaller.passes, training_s, smaller.validation_s)


def _network_text(width: Width, pace: Callable[[Width], _Pace]) -> str:
    text = f"U-Net of {_channels(width)} channels: about {_round(pace(width).steps):,} steps fit"
    position = WIDTHS.index(width) + 1
    if position == len(WIDTHS):
        return text
    wider = WIDTHS[position]
    return (
        f"{text}; one of {_channels(wider)} would be better from about {wider.least_steps:,} steps on, of which "
        f"{_round(pace(wider).steps):,} fit"
    )


def _shrunk(pace: _Pace, divisor: int) -> _Pace:
    """The sub-volume made smaller, its longest side first, until enough steps fit into a time budget."""
    if not pace.config.run.minutes or pace.config.sampling.sub_volume:
        return pace
    least = math.ceil(MIN_SHRUNK_SIDE / divisor) * divisor
    while pace.steps < LEAST_STEPS and max(pace.size) > least:
        size = list(pace.size)
        size[size.index(max(size))] -= divisor
        i, j, k = size
        pace = dataclasses.replace(pace, size=(i, j, k))
    return pace


# --- the other choices ------------------------------------------------------------------------------------------------


def _augmentation(passes: float, work: Work) -> Choice:
    light, strong = preset(LIGHT).values(), preset(STRONG).values()
    position = math.log(max(passes, 1e-9) / LIGHT_PASSES) / math.log(STRONG_PASSES / LIGHT_PASSES)
    position = min(max(position, 0.0), 1.0)
    values = {n: round(light[n] + position * (strong[n] - light[n]), 2) for n in AUGMENTATION}
    subjects = format_count(work.train, "training subject")
    amount = "light" if position == 0 else "strong" if position == 1 else "medium"
    text = f"{amount}, for {_passes(passes)} over {subjects}: the more passes, the more of it"
    return Choice("Augmentation", text, {**values, "noise": light["noise"]})


def _average(steps: float) -> Choice:
    averaged = min(max(steps * AVERAGED_SHARE, MIN_AVERAGED), MAX_AVERAGED)
    decay = round(1 - 1 / averaged, 4)
    return Choice("Averaged weights", f"over about the last {averaged:,.0f} steps", {"ema": decay})


def _validation(config: TrainConfig, work: Work, chosen: _Chosen) -> Choice:
    values: dict[str, Any] = {"samples_val": 8, "whole_every": 5, "inference_mode": "auto"}
    if not work.held_out:
        return Choice("Validation", "none: no subject is held out", values)
    budget_s = config.run.minutes * 60
    duration = format_duration(max(chosen.validation_s, 1))
    subjects = f"whole volumes of {format_count(work.held_out, 'held-out subject')}"
    if not budget_s or chosen.validation_s * 2.5 <= MAX_VALIDATION_SHARE * budget_s:
        return Choice("Validation", f"{subjects}, in about {duration}; both ways of inference are compared", values)
    if chosen.validation_s <= MAX_VALIDATION_SHARE * budget_s:
        text = (
            f"{subjects} in tiles alone, in about {duration}: comparing with one pass would take too much of the time"
        )
        return Choice("Validation", text, values | {"inference_mode": "tiles"})
    text = f"sub-volumes alone: {subjects} would take about {duration} of the {_minutes(config.run.minutes)}"
    return Choice("Validation", text, values | {"whole_every": 0, "inference_mode": "tiles"})


def _time_text(config: TrainConfig, work: Work, chosen: _Chosen) -> str:
    amount = f"about {_round(chosen.steps):,} steps, {_passes(chosen.passes)} over the training subjects"
    place, runs = work.place, work.place.measured.source
    if place.engine:
        source = f"as fast as {runs} there" if runs else "a rough estimate"
        source += f": {place.assumed}" if place.assumed else ""
    else:
        source = f"as fast as {runs} here" if runs else "a rough estimate, as no run has measured this machine yet"
    where = DEVICE_WORDS[place.device] + (f" on {place.engine}" if place.engine else "")
    if not config.run.minutes:
        duration = f"{format_duration(max(chosen.training_s, 1))} ({where})"
        epochs = config.run.epochs
        return f"{epochs:,} epoch{'s are' if epochs != 1 else ' is'} {amount}, in about {duration}; {source}"
    return f"{_minutes(config.run.minutes)} ({where}) are {amount}; {source}"


def _of(name: str, fields: Collection[str]) -> dict[str, Any]:
    values = preset(name).values()
    return {field: values[field] for field in fields}


def _passes(passes: float) -> str:
    number = f"{_round(passes):,}" if passes >= 1 else f"{passes:.1g}"
    return f"{number} pass{'es' * (number != '1')}"


def _round(number: float) -> int:
    """A number to two significant digits."""
    return int(float(f"{number:.2g}")) if number >= 1 else 1


def _minutes(minutes: float) -> str:
    return format_duration(minutes * 60)


def _channels(width: Width) -> str:
    return "-".join(map(str, width.channels))
