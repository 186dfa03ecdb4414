"""The select box for the data set on which a model is reviewed, and the subjects held out from its training."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

from core.checkpointing.metadata import CheckpointMetadata
from core.errors import DatasetError
from core.paths import DEMO, data_root
from ui.shared import cache, folders
from ui.shared.query_params import query_params
from ui.shared.state import DATA, load_from_url, save_to_url

TRAINING_DATA = "the data it was trained on"
FIRST_DEMO_SUBJECT = "subject-1"


@dataclass(frozen=True)
class DataChoice:
    """A chosen data set.

    Attributes
    ----------
    label : str. Label in the select box.
    folder : Path. Folder of the data set.
    is_training_data : bool. Whether the model was trained on it.
    """

    label: str
    folder: Path
    is_training_data: bool


def choose_data(metadata: CheckpointMetadata, key: str, width: int | Literal["stretch"] = "stretch") -> DataChoice:
    """Render the select box: the data that the model was trained on, if it is found, and all other data sets.

    Parameters
    ----------
    key : str. Key of the widget.

    Raises
    ------
    DatasetError
        If the chosen data set has no folder.
    """
    own = folders.training_data_folder(metadata)
    others = [choice for choice in cache.dataset_choices() if cache.dataset_path(choice) != own]
    choices = others if own is None else [TRAINING_DATA, *others]
    key = f"{key}-{own is None}"
    name_in_url(choices, own)
    load_from_url(key, choices[0], choices, DATA)
    label = st.selectbox("Data", choices, key=key, persist_state="session", width=width) or DEMO
    save_to_url(key, label, DATA, choices[0])
    if own is not None and label == TRAINING_DATA:
        return DataChoice(label, own, True)
    return DataChoice(label, cache.dataset_path(label), False)


def name_in_url(choices: Collection[str], own: Path | None = None) -> None:
    """Replace the folder of a data set in the URL, absolute or relative to the data root, by the choice that stands for
    it; called before the choice is loaded from the URL.

    Parameters
    ----------
    choices : collection of str. Data sets that can be chosen.
    own : Path, optional. Folder of the choice ``TRAINING_DATA``.
    """
    given = query_params.get(DATA, "")
    if not given or given in choices:
        return
    try:
        folder = cache.dataset_path(given)
    except DatasetError:
        folder = Path(given)
    name = TRAINING_DATA if folder == own else folders.display_name(data_root(), folder)
    if name in choices:
        query_params[DATA] = name


def held_out_subjects(metadata: CheckpointMetadata) -> list[str]:
    """Subjects that the network was not trained on: those of the test split, then those of the validation split."""
    return [*metadata.split.get("test", []), *metadata.split.get("val", [])]


def held_out_demo_subject(metadata: CheckpointMetadata) -> str:
    """A subject of the demo data that the network was not trained on, or the first subject if the split names none."""
    return next(iter([*held_out_subjects(metadata), FIRST_DEMO_SUBJECT]))
