"""What will happen if training starts now: who trains, which network, how much memory, how long."""

from __future__ import annotations

from core.config import TrainConfig
from core.datasets.splits import Split, split_subjects
from core.errors import UserError
from core.formatting import format_bytes, format_duration
from core.training.plan import Plan, plan
from ui.shared import formatting
from ui.shared.cache import DataFacts, accelerator
from ui.shared.errors import error_box
from ui.shared.legend import facts_list

PROGRAM_BYTES = 5e8  # Python and torch themselves, measured beside a small run on the CPU


def forecast(config: TrainConfig, facts: DataFacts) -> Plan:
    """The plan for a configuration on a data set, on the device that it will most likely use.

    Raises
    ------
    UserError
        If the configuration and the data set do not fit together.
    """
    return plan(
        config,
        shapes=facts.shapes,
        spacings_mm=facts.spacings_mm,
        in_channels=len(config.data.modalities or facts.modalities),
        classes=1 + len(config.data.classes or facts.classes),
        device=device_of(config),
    )


def device_of(config: TrainConfig) -> str:
    """The device that a run will most likely use, ``cuda`` or ``cpu``."""
    return accelerator() if config.run.device == "auto" else config.run.device


def draw(config: TrainConfig, facts: DataFacts) -> bool:
    """Draw the plan as short lines; False (with the reason on screen) where training could not start."""
    try:
        split = split_subjects(facts.labelled, config.split)
        decided = forecast(config, facts)
    except UserError as error:
        error_box(error)
        return False
    channels = " - ".join(map(str, decided.config.model.channels))
    samples = formatting.count(config.sampling.samples_train, "sub-volume")
    step, data = format_bytes(decided.step_bytes), format_bytes(decided.data_bytes)
    own = f", {format_bytes(PROGRAM_BYTES)} for the program" if device_of(config) == "cpu" else ""
    rows = [
        ("Subjects", _subjects(split)),
        ("Network", f"{config.model.model}, {channels} channels, {decided.parameters:,} parameters"),
        ("Sub-volume", _sub_volume(decided)),
        ("Epoch", f"{samples} in {formatting.count(decided.steps_per_epoch, 'step')}"),
        ("Memory", f"about {step} for a step, {data} for the data{own}"),
        ("Time", _time(config, decided)),
    ]
    facts_list(rows)
    return True


def _subjects(split: Split) -> str:
    parts = [f"{len(split.train)} train", f"{len(split.val)} choose the best epoch"]
    return ", ".join(parts + ([f"{len(split.test)} kept aside"] if split.test else []))


def _sub_volume(decided: Plan) -> str:
    size = formatting.size(decided.config.sampling.sub_volume) + " voxels"
    return size + (f" of {formatting.size(decided.spacing_mm)} mm" if decided.spacing_mm else "")


def _time(config: TrainConfig, decided: Plan) -> str:
    one = f"about {format_duration(decided.epoch_s)} per epoch"
    if config.run.minutes:
        return f"ends within {config.run.minutes:g} min; {one}, a rough guess"
    total = format_duration(decided.epoch_s * config.run.epochs)
    return f"{one}, {total} for {formatting.count(config.run.epochs, 'epoch')}; a rough guess"
