"""Views of the Review page: cases of a model (slices, figures over all cases, two models or a model and files), and
files without a run."""

from __future__ import annotations

import streamlit as st

from ui.shared.state import CASE, load_from_url, save_to_url
from ui.shared.state import VIEW as PARAMETER

VIEW = "review_view"  # session key
VIEWER = "review"  # key of the viewer
SLICES, FIGURES, MODELS = "slices", "figures", "models"
OF_MODEL, OF_FILES = "cases", "files"
SOURCE, SOURCE_PARAMETER = "review_source", "open"  # session key and query parameter
SOURCE_TITLES = {OF_MODEL: "cases of a model", OF_FILES: "open files"}
TITLES = {SLICES: "slices", FIGURES: "all cases"}


def choose_source() -> str:
    """Render the choice of what is reviewed: cases of a model, or files."""
    load_from_url(SOURCE, OF_MODEL, list(SOURCE_TITLES), SOURCE_PARAMETER)
    chosen = st.segmented_control(
        "What to review",
        list(SOURCE_TITLES),
        required=True,
        key=SOURCE,
        format_func=SOURCE_TITLES.__getitem__,
        label_visibility="collapsed",
        persist_state="session",
    )
    save_to_url(SOURCE, chosen or OF_MODEL, SOURCE_PARAMETER, OF_MODEL)
    return chosen or OF_MODEL


def choose_view(second: str) -> str:
    """Render the choice of the view.

    Parameters
    ----------
    second : str. Title of the view of the model under review beside what has segmented the same cases; empty without.
    """
    titles = {**TITLES, **({MODELS: second} if second else {})}
    views = list(titles)
    load_from_url(VIEW, SLICES, views, PARAMETER)
    if st.session_state[VIEW] not in views:
        st.session_state[VIEW] = SLICES
    chosen = st.segmented_control("View", views, required=True, key=VIEW, format_func=titles.__getitem__) or SLICES
    save_to_url(VIEW, chosen, PARAMETER, SLICES)
    return chosen


def open_case(id: str) -> None:
    """Show the slices of a case when the page runs next; for callbacks of widgets."""
    st.session_state[CASE] = id
    st.session_state[VIEW] = SLICES
