"""Decides what left-right mirroring does with the labels in a run, from its classes and its subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core.class_positions import ClassPositions
from core.config import TrainConfig
from core.errors import ConfigError
from core.laterality import (
    Mirroring,
    check_pairs,
    describe_reversed,
    find_sides,
    resolve_mirroring,
    stored_mirroring,
)
from core.presets import AUTO

if TYPE_CHECKING:
    from core.training.run_data import RunData

FACT = "left and right"
NOT_MIRRORED = "predictions are not mirrored, which auto had chosen: "  # with the reason


@dataclass(frozen=True)
class RunMirroring:
    """The decision.

    Attributes
    ----------
    config : TrainConfig. With ``lateral`` and ``lateral_pairs`` resolved; without mirroring, flips and mirrored
        prediction are off.
    facts : dict of str. The decision as a fact for the log and the page; empty where no class has a side.
    notes : tuple of str. Sentences for the log about subjects with exchanged sides.
    """

    config: TrainConfig
    facts: dict[str, str]
    notes: tuple[str, ...] = ()


def decide_mirroring(config: TrainConfig, data: RunData, measured: Mapping[str, ClassPositions]) -> RunMirroring:
    """The decision for a new run.

    Parameters
    ----------
    config : TrainConfig. With all classes resolved.
    data : RunData.
    measured : mapping. Positions of the classes in the prepared subjects to train on and to validate on, by id.

    Raises
    ------
    ConfigError
        If a stated pair is not of the network's classes, or if predictions are to be mirrored and the mirror image of a
        region is not a region; what ``auto`` chose is left out then, with a note, as where nothing is mirrored.
    """
    classes, augment = data.labels.names, config.augment
    check_pairs(augment, classes)
    positions = [measured[id] for id in data.dataset.labelled_ids if id in measured]
    sides = find_sides(classes, data.dataset.labels.names, positions, augment.stated_pairs)
    mirroring = resolve_mirroring(augment, sides, data.unoriented)
    oriented = [p for p in positions if p.id not in data.unoriented]
    decided = _applied(config, mirroring, describe_reversed(sides, classes, oriented))
    if config.validation.mirror and not decided.config.validation.mirror and config.preset == AUTO:
        return replace(decided, notes=(*decided.notes, NOT_MIRRORED + mirroring.reason))
    if not decided.config.validation.mirror or data.trained_regions is None:
        return decided
    try:
        data.trained_regions.swapped_channels(decided.config.swapped_classes)
    except ConfigError as error:
        if config.preset != AUTO:
            raise
        notes = (*decided.notes, f"{NOT_MIRRORED}{error}")
        return replace(decided, config=decided.config.with_values({"mirror": False}), notes=notes)
    return decided


def keep_mirroring(config: TrainConfig, before: TrainConfig) -> RunMirroring:
    """The decision that a resumed run began with.

    Parameters
    ----------
    config : TrainConfig. Of the run, with all classes resolved.
    before : TrainConfig. That of its checkpoint.
    """
    kept = config.with_values({"mirror": before.validation.mirror})
    return _applied(kept, stored_mirroring(before.augment))


def _applied(config: TrainConfig, mirroring: Mirroring, notes: tuple[str, ...] = ()) -> RunMirroring:
    facts = {FACT: mirroring.reason} if mirroring.reason else {}
    return RunMirroring(config.with_values(mirroring.values()), facts, notes)
