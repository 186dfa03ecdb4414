"""The forecast of a training: subjects, network, memory and time, before it starts.

The cost of the network is worked out beside the page: until it is known, the page states that and can be used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from core.choices import DEVICE_WORDS
from core.config import SplitConfig, TrainConfig
from core.datasets.splits import Split, adapted_folds, split_subjects
from core.errors import UserError
from core.formatting import format_bytes, format_duration
from core.laterality import find_sides, resolve_mirroring
from core.losses.targets import resolve_targets
from core.regions import region_space
from core.runs.expected_place import expected_place
from core.training.plan import (
    DEVICE_KINDS,
    StepCost,
    TrainingPlan,
    kept_epochs_in_words,
    make_plan,
    resampled_shapes,
)
from core.training_place import TrainingPlace
from core.types import Size3
from ui.shared import formatting
from ui.shared.cache import DatasetSummary
from ui.shared.errors import error_box
from ui.shared.legend import facts_list
from ui.shared.network_inspector import step_cost, wait_for
from ui.shared.paths import runs_root

BACKGROUND = "background"
ESTIMATING = "estimating …"
PROGRAM_BYTES = 5e8  # Python and torch without data, measured in a small run on the CPU


def forecast(config: TrainConfig, summary: DatasetSummary, device: str) -> TrainingPlan:
    """The plan of a training, from the subjects that it trains and validates on.

    Parameters
    ----------
    config : TrainConfig. Configuration.
    summary : DatasetSummary. The data set.
    device : str. Kind of the device that it will probably use, as torch names it.

    Raises
    ------
    UserError
        If the configuration does not fit the data set.
    """
    classes = (BACKGROUND, *(config.data.classes or summary.classes))
    regions = region_space(summary.regions, summary.region_order, classes)
    targets = resolve_targets(config.data.targets, config.loss.loss, regions)
    trained_on = _trained_on(config, summary)
    geometry = zip(summary.measured, summary.shapes, summary.spacings_mm, strict=True)
    of_run = [(shape, spacing_mm) for id, shape, spacing_mm in geometry if id in trained_on]
    learned = regions.names if regions is not None and targets == "regions" else classes
    return make_plan(
        config.with_values({"targets": targets}),
        shapes=[shape for shape, _ in of_run] or summary.shapes,
        spacings_mm=[spacing_mm for _, spacing_mm in of_run] or summary.spacings_mm,
        modalities=len(config.data.modalities or summary.modalities),
        classes=len(learned),
        device=device,
    )


def unoriented_subjects(config: TrainConfig, summary: DatasetSummary) -> list[str]:
    """The subjects of a training whose files state no orientation."""
    trained_on = _trained_on(config, summary)
    return [id for id in summary.unoriented if id in trained_on]


def _trained_on(config: TrainConfig, summary: DatasetSummary) -> set[str]:
    """The subjects that are trained or validated on."""
    split = split_subjects(summary.labelled, config.split)
    return {*split.train, *split.val}


@dataclass(frozen=True)
class Forecast:
    """The plan on the page.

    Attributes
    ----------
    can_start : bool. Whether training can start, as far as it is known.
    complete : callable. Waits for the cost of the network where it is not known yet, and shows it; to be called when
        the rest of the page stands.
    device : str. Kind of the device that training will probably use, as torch names it.
    """

    can_start: bool
    complete: Callable[[], None] = lambda: None
    device: str = "cpu"


def render(config: TrainConfig, summary: DatasetSummary, engine: str) -> Forecast:
    """Show the plan as a list, or the reason why training cannot start; ``engine`` is the name of the engine that is to
    train."""
    place = st.empty()
    try:
        split = split_subjects(summary.labelled, config.split)
        trained_at = expected_place(runs_root(), engine, config.run.device)
        planned = forecast(config, summary, trained_at.device)
        cost = step_cost(planned, bool(summary.ignored))
        held_out = _held_out_shapes(split, summary, planned)
    except UserError as error:
        with place.container():
            error_box(error)
        return Forecast(False)

    def show(known: StepCost | None) -> None:
        with place.container():
            _facts(summary, split, _Outlook(config, planned, known, trained_at, held_out))

    def complete() -> None:
        try:
            show(wait_for(lambda: step_cost(planned, bool(summary.ignored)), lambda: show(None)))
        except UserError as error:
            with place.container():
                error_box(error)

    show(cost)
    return Forecast(True, complete if cost is None else lambda: None, trained_at.device)


@dataclass(frozen=True)
class _Outlook:
    """The plan of a configuration, the cost of a step where it is known, where it would train, and the voxels of each
    held-out subject."""

    config: TrainConfig
    planned: TrainingPlan
    cost: StepCost | None
    place: TrainingPlace
    held_out: list[Size3]


def _held_out_shapes(split: Split, summary: DatasetSummary, planned: TrainingPlan) -> list[Size3]:
    geometry = zip(summary.measured, summary.shapes, summary.spacings_mm, strict=True)
    held_out = [(shape, spacing_mm) for id, shape, spacing_mm in geometry if id in split.val]
    return resampled_shapes([shape for shape, _ in held_out], [mm for _, mm in held_out], planned.spacing_mm)


def _facts(summary: DatasetSummary, split: Split, outlook: _Outlook) -> None:
    """The plan as a list."""
    config, planned, cost = outlook.config, outlook.planned, outlook.cost
    samples = formatting.count(config.sampling.samples_train, "sub-volume")
    facts_list(
        [
            ("Subjects", _subjects(split, config.split)),
            ("Network", _network(planned.config, cost)),
            ("Sub-volume", _sub_volume(planned)),
            ("Epoch", f"{samples} in {formatting.count(planned.steps_per_epoch, 'step')}"),
            ("Memory", _memory(planned, cost)),
            *_kept_epochs(config, cost),
            *_device(outlook.place),
            ("Time", _time(outlook)),
            *_left_and_right(config, summary),
        ]
    )


def _network(config: TrainConfig, cost: StepCost | None) -> str:
    channels = " - ".join(map(str, config.model.channels))
    parameters = ESTIMATING if cost is None else f"{cost.parameters:,} parameters"
    return ", ".join(filter(None, [config.model.model, f"{channels} channels" if channels else "", parameters]))


def _memory(planned: TrainingPlan, cost: StepCost | None) -> str:
    step = ESTIMATING if cost is None else f"about {format_bytes(cost.step_bytes)}"
    program = f", {format_bytes(PROGRAM_BYTES)} for the program" if planned.device == "cpu" else ""
    return f"{step} for a step, {format_bytes(planned.data_bytes)} for the data{program}"


def _kept_epochs(config: TrainConfig, cost: StepCost | None) -> list[tuple[str, str]]:
    """Number and size of the checkpoints that are kept of epochs; nothing where none are."""
    if not config.run.keep_every:
        return []
    return [("Kept epochs", ESTIMATING if cost is None else kept_epochs_in_words(config, cost.parameters))]


def _left_and_right(config: TrainConfig, summary: DatasetSummary) -> list[tuple[str, str]]:
    """What mirroring does with classes that have a side in their names; training looks at their positions too."""
    all_classes = (BACKGROUND, *summary.classes)
    classes = (BACKGROUND, *(config.data.classes or summary.classes))
    sides = find_sides(classes, all_classes, given=config.augment.stated_pairs)
    mirroring = resolve_mirroring(config.augment, sides, unoriented_subjects(config, summary))
    confirmed = ", if the label maps confirm it" if mirroring.pairs and config.augment.lateral == "auto" else ""
    return [("Left and right", formatting.sentence(mirroring.reason + confirmed))] if mirroring.reason else []


def _subjects(split: Split, config: SplitConfig) -> str:
    uses = (("training", split.train), ("validation", split.val), ("testing", split.test))
    parts = [f"{len(subjects):,} for {use}" for use, subjects in uses if subjects]
    adapted = adapted_folds(split, config)
    nothing = "; nothing is held out, so no Dice is measured" if config.holds_out_nothing else ""
    groups = formatting.count(len(set(split.groups.values())), "group")
    together = f"; {groups} of {len(split.groups)} subjects stay together" if split.groups else ""
    return ", ".join(parts) + (f"; {adapted} folds instead of {config.folds}" if adapted else nothing) + together


def _sub_volume(planned: TrainingPlan) -> str:
    size = formatting.size(planned.config.sampling.sub_volume) + " voxels"
    return size + (f" of {formatting.size(planned.spacing_mm)} mm" if planned.spacing_mm else "")


def _device(place: TrainingPlace) -> list[tuple[str, str]]:
    """The device on another engine, and what of it was assumed."""
    if not place.engine:
        return []
    text = f"{DEVICE_WORDS[place.device]} on {place.engine}" + (f"; {place.assumed}" if place.assumed else "")
    return [("Device", formatting.sentence(text))]


def _time(outlook: _Outlook) -> str:
    """The range of the duration: as the last runs took on this machine or engine, or what it usually is.

    The text is about as long while the cost is being estimated, so that the controls below it do not move.
    """
    config, planned, cost, measured = outlook.config, outlook.planned, outlook.cost, outlook.place.measured
    shortest, longest = measured.shortest, measured.longest
    if not measured.runs:
        shortest, longest = DEVICE_KINDS[planned.device].uncertainty

    def between(seconds: Callable[[StepCost], float]) -> str:
        return ESTIMATING if cost is None else _range(seconds(cost) * shortest, seconds(cost) * longest)

    epoch = f"{between(planned.epoch_s)} per epoch"
    source = f"as fast as {measured.source}" if measured.runs else "a rough estimate"
    correction = f"{source}; the run itself corrects it within seconds"
    if config.run.minutes:
        return f"ends within {config.run.minutes:g} min; {epoch}, {correction}"
    held_out = outlook.held_out
    total = between(lambda known: planned.epoch_s(known) * config.run.epochs + planned.validations_s(known, held_out))
    epochs = formatting.count(config.run.epochs, "epoch") + (" with validation" if held_out else "")
    return f"{epoch}, {total} for {epochs}; {correction}"


def _range(low_s: float, high_s: float) -> str:
    """A range of durations: "5 s to 40 s"."""
    low, high = format_duration(low_s), format_duration(high_s)
    return f"about {low}" if low == high else f"{low} to {high}"
