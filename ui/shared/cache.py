"""Cached reads of data sets and models: names, headers and metadata; no voxels and no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import streamlit as st

from core import runs
from core.checkpointing.metadata import CheckpointMetadata, read_metadata
from core.config import ModelConfig
from core.datasets import DataOptions, Dataset, fingerprint, open_dataset
from core.datasets.findings import Finding
from core.datasets.fitness import judge_files
from core.datasets.registry import DEFAULT_OPTIONS
from core.datasets.saved_recipes import settings_stamp
from core.datasets.synthetic.demo import has_subject, planned_demo, read_marker
from core.errors import UserError
from core.files import FileStamp, file_stamp
from core.inference.voxel_size import ExpectedVoxelSize
from core.paths import DEMO, DEMO_MODEL, data_root, demo_folder, demo_model_path
from core.runs import group_scores
from core.runs.group_scores import CrossValidation
from core.runs.group_summary import GroupSummary
from core.runs.initial_weights import initial_checkpoint, network_of
from core.runs.models import ensemble_key, list_ensembles
from core.runs.other_roots import OtherRuns, list_other_runs
from core.runs.store.folder import PREDICTIONS
from core.types import Size3, SpacingMm
from ui.shared import folders
from ui.shared.paths import runs_root


@dataclass(frozen=True)
class DatasetSummary:
    """A data set as pages show it.

    Attributes
    ----------
    name, layout, description, licence : str. As in :class:`core.datasets.Dataset`.
    modalities, classes, ids : tuple of str. Names; classes do not include the background.
    labelled : dict. Parts of their file names by id of the labelled subjects.
    colours : dict. Colour (#rrggbb) by class name.
    ignored : str. Name of the ignore label; empty if there is none.
    measured : tuple of str. Ids of the labelled subjects whose headers can be read.
    shapes : tuple. Size in voxels of each of these.
    spacings_mm : tuple. Voxel size in mm of each of these.
    synthetic : bool. Whether the data is simulated.
    unoriented : tuple of str. Ids of labelled subjects whose files state no orientation.
    reason : str. Why the folder is read in its layout.
    regions, region_order : dict. As in :class:`core.datasets.Dataset`.
    """

    name: str
    layout: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    colours: dict[str, str]
    ids: tuple[str, ...]
    labelled: Mapping[str, Mapping[str, str]]
    measured: tuple[str, ...]
    shapes: tuple[Size3, ...]
    spacings_mm: tuple[SpacingMm, ...]
    synthetic: bool = False
    description: str = ""
    licence: str = ""
    ignored: str = ""
    unoriented: tuple[str, ...] = ()
    reason: str = ""
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    region_order: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A checkpoint that can predict.

    Attributes
    ----------
    key : str. Id of its run, "ensembles/<name>", or "demo-model".
    name : str. Name on screen, unique in a list of models.
    path : Path. Checkpoint file.
    """

    key: str
    name: str
    path: Path


def models(*, ensembles: bool = False) -> list[Model]:
    """All runs with a checkpoint, the newest first, then ensembles if asked for, then the ready-made model."""
    found = []
    for run in runs.list_runs(runs_root()):
        path = runs.run_checkpoint(run.folder)
        if path is not None:
            found.append(Model(run.id, run.name, path))
    for path in list_ensembles(runs_root()) if ensembles else ():
        found.append(Model(ensemble_key(path), f"{path.stem}, ensemble", path.absolute()))
    path = demo_model_path()
    if path.is_file():
        found.append(Model(DEMO_MODEL, "Ready-made, from synthetic data", path))
    names = [model.name for model in found]
    return [m if names.count(m.name) == 1 else replace(m, name=f"{m.name} ({m.key})") for m in found]


def checkpoint_metadata(path: Path) -> CheckpointMetadata:
    """The metadata of a checkpoint.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    return _checkpoint_metadata(str(path), file_stamp(path))


@st.cache_data(max_entries=100, show_spinner=False)
def _checkpoint_metadata(path: str, stamp: FileStamp) -> CheckpointMetadata:
    return read_metadata(Path(path))


def initial_network(text: str) -> ModelConfig | None:
    """The network that initial weights belong to; as :func:`core.runs.initial_weights.initial_network`."""
    path = initial_checkpoint(runs_root(), text)
    return _network_of(path, file_stamp(Path(path))) if path else None


@st.cache_data(ttl=60, max_entries=100, show_spinner=False)  # a user's own network may become known
def _network_of(path: str, stamp: FileStamp) -> ModelConfig | None:
    return network_of(Path(path))


def expected_voxel_size(path: Path) -> ExpectedVoxelSize:
    """The voxel size that the network of a checkpoint expects.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    return _expected_voxel_size(str(path), file_stamp(path))


@st.cache_data(ttl=60, max_entries=100, show_spinner=False)
def _expected_voxel_size(path: str, stamp: FileStamp) -> ExpectedVoxelSize:
    return ExpectedVoxelSize.of(_checkpoint_metadata(path, stamp), Path(path))


def cross_validation(root: Path, summary: GroupSummary) -> CrossValidation:
    """The scores of a group of folds; what they say about changed images is a few seconds old at most."""
    read_from = tuple((run.id, run.state.state, *_scores_stamp(run.folder)) for run in summary.runs)
    return _cross_validation(str(root), summary.group.id, len(summary.missing), read_from, summary)


@st.cache_data(ttl=10, max_entries=20, show_spinner=False)
def _cross_validation(
    root: str, group_id: str, missing: int, read_from: tuple[object, ...], _summary: GroupSummary
) -> CrossValidation:
    return group_scores.cross_validation(Path(root), _summary)


def _scores_stamp(folder: Path) -> tuple[object, ...]:
    """Changes when the checkpoint of a run changes, or one of its kept predictions."""
    checkpoint = runs.run_checkpoint(folder)
    kept = sorted((folder / PREDICTIONS).glob("*"))  # whose time changes with a record that is written or replaced
    return (str(checkpoint), file_stamp(checkpoint) if checkpoint else None, *map(file_stamp, kept))


FolderStamp = tuple[FileStamp, tuple[FileStamp, FileStamp]]  # of a data set, and of what is set for it


def other_runs(root: Path) -> OtherRuns:
    """The runs of other roots in a shared database, a few seconds old at most."""
    return _other_runs(str(root))


@st.cache_data(ttl=4, max_entries=4, show_spinner=False)
def _other_runs(root: str) -> OtherRuns:
    return list_other_runs(Path(root))


def dataset(folder: Path, options: DataOptions = DEFAULT_OPTIONS) -> Dataset:
    """An opened data set: names of subjects and files.

    Raises
    ------
    DatasetError
        If the folder is not a usable data set.
    """
    return _dataset(str(folder), (file_stamp(folder), settings_stamp(folder)), options)


@st.cache_data(ttl=20, max_entries=50, show_spinner=False)
def _dataset(path: str, stamp: FolderStamp, options: DataOptions) -> Dataset:
    return open_dataset(path, options=options)


def demo_subject_exists(subject: str) -> bool:
    """Whether a subject of the demo data exists; the data set may be incomplete."""
    return has_subject(demo_folder(), subject)


def demo_exists() -> bool:
    """Whether the demo data set is complete."""
    try:
        return read_marker(demo_folder()) is not None
    except UserError:
        return False


def dataset_choices() -> list[str]:
    """Data sets that can be selected: the demo data, and all data sets in the data root by their relative paths."""
    return _dataset_choices(str(data_root()))


def forget_dataset_choices() -> None:
    """Look for data sets anew when they are listed next."""
    _dataset_choices.clear()


@st.cache_data(ttl=20, show_spinner=False)
def _dataset_choices(root: str) -> list[str]:
    base = Path(root)
    return [DEMO, *(folders.display_name(base, p) for p in folders.find_datasets(base) if p != demo_folder())]


def dataset_path(choice: str) -> Path:
    """The folder of a selected data set.

    Raises
    ------
    DatasetError
        If it is outside the data root or not a folder.
    """
    return demo_folder() if choice == DEMO else folders.resolve_inside(data_root(), choice)


def dataset_summary(choice: str, options: DataOptions = DEFAULT_OPTIONS) -> DatasetSummary:
    """A selected data set, from its names and headers; the demo data also before it is made.

    Raises
    ------
    UserError
        If the folder is not a usable data set.
    """
    if choice == DEMO and not demo_exists():
        return _planned_demo()
    path = dataset_path(choice)
    return _dataset_summary(str(path), (file_stamp(path), settings_stamp(path)), options)


@st.cache_data(ttl=60, max_entries=50, show_spinner="Reading headers")
def _dataset_summary(path: str, stamp: FolderStamp, options: DataOptions) -> DatasetSummary:
    dataset = open_dataset(path, options=options)
    geometry = fingerprint(dataset, dataset.labelled_ids, readable_only=True)  # the check names those that are not
    return DatasetSummary(
        name=dataset.name,
        layout=dataset.layout,
        modalities=dataset.modalities,
        classes=dataset.labels.names[1:],
        colours={c.name: c.colour for c in dataset.labels.foreground},
        ids=dataset.ids,
        labelled=dataset.labelled,
        measured=tuple(geometry.shapes),
        shapes=tuple(geometry.shapes.values()),
        spacings_mm=tuple(geometry.spacings_mm.values()),
        synthetic=dataset.synthetic,
        description=dataset.description,
        licence=dataset.licence,
        ignored=dataset.labels.ignore.name if dataset.labels.ignore is not None else "",
        unoriented=geometry.unoriented,
        reason=dataset.reason,
        regions=dataset.regions,
        region_order=dataset.region_order,
    )


def file_errors(
    choice: str, options: DataOptions, modalities: tuple[str, ...], excluded: tuple[str, ...], state: str = ""
) -> list[Finding]:
    """What names and headers of a selected data set say against training on it; nothing for the demo data.

    Parameters
    ----------
    modalities, excluded : as in :func:`core.datasets.fitness.judge_files`.
    state : str. Changes with the files, where that is known; otherwise a change is noticed within a minute.
    """
    if choice == DEMO:
        return []
    path = dataset_path(choice)
    return _file_errors(str(path), (file_stamp(path), settings_stamp(path)), options, modalities, excluded, state)


@st.cache_data(ttl=60, max_entries=50, show_spinner="Reading headers")
def _file_errors(
    path: str,
    stamp: FolderStamp,
    options: DataOptions,
    modalities: tuple[str, ...],
    excluded: tuple[str, ...],
    state: str,
) -> list[Finding]:
    return judge_files(open_dataset(path, options=options), modalities, excluded)


def _planned_demo() -> DatasetSummary:
    planned = planned_demo()
    return DatasetSummary(
        name="demo",
        layout="iseg",
        modalities=planned.modalities,
        classes=tuple(planned.colours),
        colours=planned.colours,
        ids=planned.ids,
        labelled=planned.labelled,
        measured=planned.ids,
        shapes=planned.shapes,
        spacings_mm=planned.spacings_mm,
        synthetic=True,
    )
