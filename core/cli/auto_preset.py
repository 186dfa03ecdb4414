"""The preset ``auto`` on the command line: its choices for a data set, this machine and the flags that are given."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from core.config import TrainConfig
from core.datasets import DataOptions, fingerprint, open_dataset
from core.datasets.synthetic.demo import planned_unless_made
from core.errors import UserError
from core.paths import checkpoints_root, dataset_folder
from core.presets import AUTO, preset
from core.runs.expected_place import expected_place
from core.runs.initial_weights import initial_network
from core.runs.store.engine_records import LOCAL
from core.training.auto_network import Work
from core.training.auto_preset import choose, work_of
from core.types import Size3, SpacingMm


def choose_values(config: TrainConfig, given: Collection[str], root: Path, engine: str = LOCAL) -> TrainConfig:
    """The configuration with what ``auto`` chooses, and why.

    Parameters
    ----------
    config : TrainConfig. Values that were given, and those of the preset before it knew the data.
    given : collection of str. Names of the fields that keep their value.
    root : Path. Checkpoints root, whose last runs tell how fast this machine or the engine is.
    engine : str. Name of the engine that is to train.

    Raises
    ------
    UserError
        If the data set cannot be opened or split, there is no such engine, or the initial weights cannot be read.
    """
    values = {name: value for name, value in config.values().items() if name in given}
    initial = initial_network(root, config.run.init_from)
    return choose(config, _work(config, root, engine), values, initial).apply(config, given)


def chosen_lines(data: str, layout: str, options: DataOptions) -> list[str]:
    """What ``auto`` would choose for a data set, line by line, for the check of it; empty if it cannot be split.

    Parameters
    ----------
    data : str. Folder of the data set, or "demo".
    layout : str. How the folder is organised.
    options : DataOptions. How it is read.
    """
    read_as = {name: getattr(options, name) for name in options.names()}
    config = preset(AUTO).with_values({"path": data, "layout": layout, **read_as})
    try:
        reasons = choose_values(config, (), checkpoints_root()).reasons
    except UserError:
        return []
    return [f"training for {config.run.minutes:g} minutes (--preset {AUTO}) would be", *(f"  {r}" for r in reasons)]


def _work(config: TrainConfig, root: Path, engine: str) -> Work:
    place = expected_place(root, engine, config.run.device)
    labelled: Mapping[str, Mapping[str, str]]
    shapes: tuple[Size3, ...]
    spacings_mm: tuple[SpacingMm, ...]
    if planned := planned_unless_made(config.data.path):
        labelled, shapes, spacings_mm = planned.labelled, planned.shapes, planned.spacings_mm
    else:
        path = dataset_folder(config.data.path)
        dataset = open_dataset(path, config.data.layout, DataOptions.from_config(config.data))
        geometry = fingerprint(dataset, dataset.labelled_ids)
        labelled = dataset.labelled
        shapes, spacings_mm = tuple(geometry.shapes.values()), tuple(geometry.spacings_mm.values())
    return work_of(config, labelled, shapes, spacings_mm, place)
