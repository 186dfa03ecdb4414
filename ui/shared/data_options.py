"""Options of reading a data set, chosen on the Data page: kept for each data set while the session lasts."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core.datasets import DataOptions, Dataset
from core.datasets.registry import DEFAULT_OPTIONS

AUTOMATIC, NO_LABEL = "auto", "none"  # values of the option ignore that are no label
IGNORE_TEXTS = {AUTOMATIC: "the label named ignore, if there is one", NO_LABEL: "no label"}


def data_options(choice: str) -> DataOptions:
    """The options chosen for a data set."""
    return DataOptions(
        ignore=st.session_state.get(_key("ignore", choice)) or DEFAULT_OPTIONS.ignore,
        nan_is_zero=bool(st.session_state.get(_key("nan_is_zero", choice), DEFAULT_OPTIONS.nan_is_zero)),
    )


def choose_data_options(choice: str, dataset: Dataset) -> None:
    """Render the widgets of the options of a data set."""
    labels = [*dataset.labels.names[1:], *([dataset.labels.ignore.name] if dataset.labels.ignore else [])]
    common: dict[str, Any] = {"persist_state": "session"}
    st.toggle(
        "Read NaN as 0",
        key=_key("nan_is_zero", choice),
        help="For files that hold NaN (not a number) outside the field of view, as SPM writes them. "
        "On the command line: `--nan-is-zero`",
        **common,
    )
    st.selectbox(
        "Ignored label",
        [AUTOMATIC, NO_LABEL, *labels],
        accept_new_options=True,
        format_func=lambda name: IGNORE_TEXTS.get(name, name),
        key=_key("ignore", choice),
        help="Voxels with this label are left out of training and scores. On the command line: `--ignore`",
        **common,
    )


def reset_data_options(choice: str) -> None:
    """Undo what was chosen for a data set (callback of a button)."""
    for name in ("ignore", "nan_is_zero"):
        st.session_state.pop(_key(name, choice), None)


def _key(name: str, choice: str) -> str:
    return f"data_option.{name}.{choice}"
