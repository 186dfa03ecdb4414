"""Cached looks at data sets and models: what pages need to know before any image or tensor is read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from core import runs
from core.checkpointing.metadata import Description, read_description
from core.datasets import Dataset, fingerprint, open_dataset
from core.datasets.synthetic.demo import has_subject, read_marker
from core.errors import UserError
from core.paths import READY_MADE, ready_made
from core.types import Size3, SpacingMm
from ui.shared import folders
from ui.shared.state import DEMO, data_root, demo_folder, runs_root


@dataclass(frozen=True)
class DataFacts:
    """A data set as the pages need it; ``colours`` by class name, without the background."""

    name: str
    layout: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    colours: dict[str, str]
    ids: tuple[str, ...]
    labelled: tuple[str, ...]
    shapes: tuple[Size3, ...]
    spacings_mm: tuple[SpacingMm, ...]
    synthetic: bool
    description: str
    licence: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """A checkpoint to predict with: ``key`` is the run's id or "demo-model", ``name`` for people, ``modified`` in Unix
    seconds."""

    key: str
    name: str
    path: Path
    modified: float


def models() -> list[Model]:
    """Every run that has a checkpoint, the newest first, and the ready-made model."""
    found = []
    for run in runs.list_runs(runs_root()):
        path = runs.run_checkpoint(run.folder)
        if path is not None:
            found.append(Model(run.id, run.name, path, path.stat().st_mtime))
    if ready_made().is_file():
        found.append(Model(READY_MADE, "Ready-made, from synthetic data", ready_made(), ready_made().stat().st_mtime))
    names = [model.name for model in found]
    return [m if names.count(m.name) == 1 else replace(m, name=f"{m.name} ({m.key})") for m in found]


def description(path: Path) -> Description:
    """What is in a checkpoint.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    return _description(str(path), file_stamp(path))


@st.cache_data(max_entries=100, show_spinner=False)
def _description(path: str, stamp: tuple[int, int]) -> Description:
    return read_description(Path(path))


def dataset(folder: Path) -> Dataset:
    """A data set opened: names of subjects and files, no image.

    Raises
    ------
    DatasetError
        If the folder is no usable data set.
    """
    return _dataset(str(folder), file_stamp(folder))


@st.cache_data(ttl=20, max_entries=50, show_spinner=False)
def _dataset(path: str, stamp: tuple[int, int]) -> Dataset:
    return open_dataset(path)


def demo_has(subject: str) -> bool:
    """Whether a subject of the demo data is there, whatever the others are."""
    return has_subject(demo_folder(), subject)


def demo_is_there() -> bool:
    """Whether the demo data set is complete."""
    try:
        return read_marker(demo_folder()) is not None
    except UserError:
        return False


@st.cache_data(ttl=20, show_spinner=False)
def choices(root: str) -> list[str]:
    """What can be chosen on the Data and Train pages: the demo data, and every data set under the data root."""
    base = Path(root)
    return [DEMO, *(folders.label(base, p) for p in folders.data_sets(base) if p != demo_folder())]


def data_choices() -> list[str]:
    """The choices for the app's data root."""
    return choices(str(data_root()))


def data_path(choice: str) -> Path:
    """The folder of a choice. Raises DatasetError where it leads out of the data root or to nothing."""
    return demo_folder() if choice == DEMO else folders.inside(data_root(), choice)


def data_facts(choice: str) -> DataFacts:
    """Facts from names and headers. For demo data that is not made yet: what it will be.

    Raises
    ------
    UserError
        If the folder is no usable data set.
    """
    if choice == DEMO and not demo_is_there():
        return _demo_to_be()
    path = data_path(choice)
    return _facts(str(path), path.stat().st_mtime_ns)


@st.cache_data(ttl=60, max_entries=50, show_spinner="Reading headers")
def _facts(path: str, changed: int) -> DataFacts:
    dataset = open_dataset(path)
    seen = fingerprint(dataset, dataset.labelled_ids)
    return DataFacts(
        name=dataset.name,
        layout=dataset.layout,
        modalities=dataset.modalities,
        classes=dataset.labels.names[1:],
        colours={c.name: c.colour for c in dataset.labels.foreground},
        ids=dataset.ids,
        labelled=dataset.labelled_ids,
        shapes=tuple(seen.shapes.values()),
        spacings_mm=tuple(seen.spacings_mm.values()),
        synthetic=dataset.synthetic,
        description=dataset.description,
        licence=dataset.licence,
        notes=dataset.notes,
    )


def _demo_to_be() -> DataFacts:
    from core.labels import TISSUE_COLOURS

    names = tuple(f"subject-{n}" for n in range(1, 11))
    return DataFacts(
        "demo", "iseg", ("T1", "T2"), tuple(TISSUE_COLOURS), dict(TISSUE_COLOURS), names, names,
        ((144, 192, 256),) * 10, ((1.0, 1.0, 1.0),) * 10, True, "", "", (),
    )  # fmt: skip


def file_stamp(path: Path) -> tuple[int, int]:
    """Changes when the file or folder does; of what is not there, zeros: reading it says so."""
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return facts.st_mtime_ns, facts.st_size


@st.cache_resource(show_spinner=False)
def accelerator() -> str:
    """``cuda`` or ``cpu``: what training would most likely use, found without torch."""
    return "cuda" if shutil.which("nvidia-smi") else "cpu"
