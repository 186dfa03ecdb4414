"""Cached looks at data sets: what the Train and Data pages need to know before anything is read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from core.datasets import fingerprint, open_dataset
from core.datasets.demo import read_marker
from core.errors import UserError
from ui import folders
from ui.state import DEMO, data_root, demo_folder

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


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
    shapes: tuple[Shape, ...]
    spacings_mm: tuple[Spacing, ...]
    synthetic: bool
    description: str
    licence: str
    notes: tuple[str, ...]


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


@st.cache_resource(show_spinner=False)
def accelerator() -> str:
    """``cuda`` or ``cpu``: what training would most likely use, found without torch."""
    return "cuda" if shutil.which("nvidia-smi") else "cpu"
