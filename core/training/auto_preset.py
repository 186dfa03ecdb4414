"""The preset ``auto``: a configuration for the time, the data and the device of a run, with a reason for each choice.

The choices come from two numbers: the training steps that fit into the time, and how often training passes over the
data in them. Their constants are measurements on two data sets on a CPU (benchmarks/NOTES.md).

Like :mod:`core.training.plan`, the module does not import torch, so that the Train page can show the choices.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from core.choices import DEVICE_WORDS
from core.config import ModelConfig, TrainConfig, field_specs
from core.formatting import format_count, format_duration, format_number
from core.presets import preset
from core.training.auto_network import (
    FORWARD_SHARE,
    MAX_VALIDATION_SHARE,
    VALIDATIONS_SHARE,
    Choice,
    FittedNetwork,
    Work,
    fit_network,
    round_number,
)
from core.training.plan import BOTH_WAYS, number_of_validations, resampled_shapes, target_spacing
from core.training_place import TrainingPlace
from core.types import Size3, SpacingMm

if TYPE_CHECKING:
    from core.datasets.splits import Labelled

AVERAGED_SHARE = 0.1  # of the steps of a run, over which the weights are averaged
MIN_AVERAGED, MAX_AVERAGED = 33, 1000  # steps: a decay of 0.97, and of 0.999
# Augmentation grows with the logarithm of the passes over the data, between two presets.
LIGHT_PASSES, STRONG_PASSES = 16.0, 50.0
LIGHT, STRONG = "fast", "thorough"
WHOLE_EVERY = 5  # epochs between validations on whole volumes, where that takes no more than their share
MAX_MIRRORED_S = 20.0  # duration of a mirrored prediction of one volume, up to which it is chosen
# Fields that are chosen; where one is given, others follow from it.
OTHERS_FOLLOW = ("sub_volume", "batch_size", "accumulate")
AUGMENTATION = ("affine", "elastic", "intensity")


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
            named = set(given) - set(choice.stated)
            replaced = [n for n, value in choice.values.items() if n in named and values[n] != value]
            instead = f"; given instead: {', '.join(flags[name] for name in replaced)}" if replaced else ""
            lines.append(f"{choice.topic}: {choice.text}{instead}")
        return tuple(lines)


def choose(
    config: TrainConfig,
    work: Work,
    given: Mapping[str, Any] = MappingProxyType({}),
    initial: ModelConfig | None = None,
) -> Recipe:
    """The choices for a run.

    Parameters
    ----------
    config : TrainConfig. What is given: time budget or epochs, network, voxel size, number of devices, sub-volume,
        batch.
    work : Work. Data and device.
    given : mapping. Values by field name that replace choices; those of the network decide what fits, and ``mirror``
        how long validation takes.
    initial : ModelConfig or None. Network of the initial weights, which is chosen unless another one is given.
    """
    spacing_mm = target_spacing(config, work.spacings_mm)
    shapes = resampled_shapes(work.shapes, work.spacings_mm, spacing_mm)
    chosen = fit_network(config, work, shapes, given, initial)
    steps, passes = chosen.steps, chosen.passes
    mirrored = _mirrored(config, chosen)
    mirror = given.get("mirror", mirrored.values["mirror"])
    validation = _validation(config, work, chosen, 2 if mirror else 1)
    validated = {name: given.get(name, value) for name, value in {**validation.values, **mirrored.values}.items()}
    return Recipe(
        (
            Choice("Time", _time_text(config, work, chosen, validated)),
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
            mirrored,
            validation,
        )
    )  # fmt: skip


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
    over = f"over about the last {averaged:,.0f} steps" if averaged < steps else "over all steps"
    return Choice("Averaged weights", over, {"ema": decay})


def _mirrored(config: TrainConfig, chosen: FittedNetwork) -> Choice:
    def choice(mirror: bool, text: str) -> Choice:
        return Choice("Mirrored prediction", text, {"mirror": mirror})

    if not config.augment.flip or config.augment.lateral == "off":
        return choice(False, "none, as no sub-volume is mirrored in training")
    if config.augment.lateral == "ignore":
        return choice(False, "none, as mirroring does not exchange the labels of left and right (lateral ignore)")
    volume_s = 2 * chosen.volume_s
    duration = format_duration(max(volume_s, 1))
    if volume_s > MAX_MIRRORED_S:
        return choice(False, f"none: with it a whole volume would take about {duration}")
    if not _fits(2 * chosen.validation_s, config, chosen):
        return choice(False, "none: with it validation would take too much of the time")
    text = "each volume is segmented as it is and mirrored left-right, and both are averaged"
    return choice(True, f"{text}, in {'less than a second' if volume_s < 1 else f'about {duration}'}")


def _fits(validation_s: float, config: TrainConfig, chosen: FittedNetwork) -> bool:
    """Whether a validation takes no more than its share of the time budget, or of the training of the epochs."""
    return validation_s <= MAX_VALIDATION_SHARE * (config.run.minutes * 60 or chosen.training_s)


def _whole_every(config: TrainConfig, validation_s: float, chosen: FittedNetwork) -> int:
    """Epochs between validations on whole volumes. Under a time budget the run itself keeps them to their share, and
    early stopping counts them."""
    if config.run.minutes or config.validation.patience:
        return WHOLE_EVERY
    before_the_end = int(VALIDATIONS_SHARE * chosen.training_s / max(validation_s, 1e-9))
    return max(WHOLE_EVERY, math.ceil(config.run.epochs / (before_the_end + 1)))


def _validation(config: TrainConfig, work: Work, chosen: FittedNetwork, passes: int) -> Choice:
    values: dict[str, Any] = {"samples_val": 8, "whole_every": WHOLE_EVERY, "inference_mode": "auto"}
    if not work.held_out:
        return Choice("Validation", "none: no subject is held out", values)
    validation_s = chosen.validation_s * passes
    duration = format_duration(max(validation_s, 1))
    values["whole_every"] = every = _whole_every(config, validation_s, chosen)
    subjects = f"whole volumes of {format_count(work.held_out, 'held-out subject')}"
    if not config.run.minutes:
        subjects += f" every {every:,} epochs" if every < config.run.epochs else " at the end"
    if _fits(BOTH_WAYS * validation_s, config, chosen):
        return Choice("Validation", f"{subjects}, in about {duration}; both ways of inference are compared", values)
    if _fits(validation_s, config, chosen):
        text = (
            f"{subjects} in tiles alone, in about {duration}: comparing with one pass would take too much of the time"
        )
        return Choice("Validation", text, values | {"inference_mode": "tiles"})
    if config.validation.patience:  # which counts validations of whole volumes
        text = f"{subjects} in tiles alone, in about {duration}: much of the time, but early stopping needs them"
        return Choice("Validation", text, values | {"inference_mode": "tiles"})
    of_s = config.run.minutes * 60 or chosen.training_s
    text = f"sub-volumes alone: {subjects} would take about {duration} of the {_duration(of_s)}"
    return Choice("Validation", text, values | {"whole_every": 0, "inference_mode": "tiles"})


def _time_text(config: TrainConfig, work: Work, chosen: FittedNetwork, validated: Mapping[str, Any]) -> str:
    steps = format_count(round_number(chosen.steps), "step")
    amount = f"about {steps}, {_passes(chosen.passes)} over the training subjects"
    place, runs = work.place, work.place.measured.source
    if place.engine:
        source = f"as fast as {runs} there" if runs else "a rough estimate"
        source += f": {place.assumed}" if place.assumed else ""
    else:
        source = f"as fast as {runs} here" if runs else "a rough estimate, as no run has measured this machine yet"
    where = DEVICE_WORDS[place.device] + (f" on {place.engine}" if place.engine else "")
    if not config.run.minutes:
        total_s = chosen.training_s + _validations_s(config, work, chosen, validated)
        duration = f"{format_duration(max(total_s, 1))}{' with validation' if work.held_out else ''} ({where})"
        epochs = config.run.epochs
        return f"{epochs:,} epoch{'s are' if epochs != 1 else ' is'} {amount}, in about {duration}; {source}"
    return f"{_duration(config.run.minutes * 60)} ({where}) are {amount}; {source}"


def _validations_s(config: TrainConfig, work: Work, chosen: FittedNetwork, validated: Mapping[str, Any]) -> float:
    """Duration of all validations of a run by epochs: sub-volumes after each of them, whole volumes after some."""
    if not work.held_out:
        return 0.0
    number = number_of_validations(config.run.epochs, validated["whole_every"], validated["inference_mode"])
    sub_volumes_s = chosen.training_s * FORWARD_SHARE * validated["samples_val"] / config.sampling.samples_train
    return number * chosen.validation_s * (2 if validated["mirror"] else 1) + sub_volumes_s


def _of(name: str, fields: Collection[str]) -> dict[str, Any]:
    values = preset(name).values()
    return {field: values[field] for field in fields}


def _passes(passes: float) -> str:
    number = f"{round_number(passes):,}" if passes >= 1 else f"{passes:.1g}"
    return f"{number} pass{'es' * (number != '1')}"


def _duration(seconds: float) -> str:
    return format_duration(seconds) if seconds >= 1 else f"{format_number(seconds, 1)} s"
