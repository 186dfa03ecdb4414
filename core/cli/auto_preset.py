"""The preset ``auto`` on the command line: its choices for a data set, this machine and the flags that are given."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from core.compute.expected_device import expected_device
from core.config import TrainConfig
from core.datasets import DataOptions, fingerprint, open_dataset
from core.datasets.splits import split_subjects
from core.datasets.synthetic.demo import DEFAULT_SUBJECTS, read_marker
from core.datasets.synthetic.demo_writer import SHAPE
from core.errors import UserError
from core.labels import TISSUE_COLOURS
from core.paths import DEMO, checkpoints_root, dataset_folder
from core.presets import AUTO, preset
from core.runs.measured_speed import duration_factors
from core.training.auto_preset import Work, choose
from core.types import Size3, SpacingMm


def choose_values(config: TrainConfig, given: Collection[str], root: Path) -> TrainConfig:
    """The configuration with what ``auto`` chooses, and why.

    Parameters
    ----------
    config : TrainConfig. Values that were given, and those of the preset before it knew the data.
    given : collection of str. Names of the fields that keep their value.
    root : Path. Checkpoints root, whose last runs tell how fast this machine is.

    Raises
    ------
    UserError
        If the data set cannot be opened or split.
    """
    return choose(config, _work(config, root)).apply(config, given)


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


def _work(config: TrainConfig, root: Path) -> Work:
    device = expected_device(config.run.device)
    measured = duration_factors(root, device)
    path = dataset_folder(config.data.path)
    shapes: list[Size3]
    spacings_mm: list[SpacingMm]
    if config.data.path == DEMO and read_marker(path) is None:  # it is made when training starts
        labelled = tuple(f"subject-{n}" for n in range(1, DEFAULT_SUBJECTS + 1))
        modalities, classes = 2, len(TISSUE_COLOURS)
        shapes, spacings_mm = [SHAPE] * len(labelled), [(1.0, 1.0, 1.0)] * len(labelled)
    else:
        dataset = open_dataset(path, config.data.layout, DataOptions.from_config(config.data))
        geometry = fingerprint(dataset, dataset.labelled_ids)
        labelled = dataset.labelled_ids
        modalities, classes = len(dataset.modalities), len(dataset.labels) - 1
        shapes, spacings_mm = list(geometry.shapes.values()), list(geometry.spacings_mm.values())
    split = split_subjects(labelled, config.split)
    return Work(
        shapes=tuple(shapes),
        spacings_mm=tuple(spacings_mm),
        in_channels=len(config.data.modalities) or modalities,
        classes=1 + (len(config.data.classes) or classes),
        train=len(split.train),
        held_out=len(split.val),
        device=device,
        duration_factor=measured.expected,
        measured_runs=measured.runs,
    )
