"""Names of everything kept in the session or in the address, and where the app keeps its own files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import streamlit as st

from core.paths import DEMO, checkpoints_root, data_root, demo_folder, project_root

__all__ = ["DEMO", "cache_root", "data_root", "demo_folder", "project_root", "runs_root"]

PROJECT = project_root()

# Widget keys that are query parameters too: an address chooses them, and they go along from page to page.
DATA = "data"
PRESET = "preset"
RUN_PARAMETER = "run"
MODEL = "model"
CASE = "case"
AT = "at"  # the voxel of the crosshair, counted from 1
QUIZ_GAME = "game"
RESULT = "result"

# Session keys.
DATA_VIEW = "data_view"
DATA_SUBJECT = "data_subject"
REVIEW_DATA = "review_data"
REVIEW_SHOW = "review_show"
PREDICT_MODELS = "predict_models"
PREDICT_FILE = "predict_file"
PREDICT_SOURCE = "predict_source"
PREDICT_DATA = "predict_data"
PREDICT_SUBJECT = "predict_subject"
PREDICT_FILES = "predict_files"
PREDICT_CHANNEL = "predict_channel"
PREDICT_EXAMPLE = "predict_example"
UPLOADS = "uploads"
UPLOAD_ROUND = "upload_round"
RUN_NAME = "run_name"
FORM_GENERATION = "form_generation"
RUN_FILTER = "run_filter"
RUN_KIND = "run_kind"
QUIZ_DATA = "quiz_data"
QUIZ_DIFFICULTY = "quiz_difficulty"
QUIZ_COUNT = "quiz_count"
QUIZ_PLANES = "quiz_planes"
QUIZ_DEPTH = "quiz_depth"
QUIZ_PREPARING = "quiz_preparing"
QUIZ_ATTEMPT = "quiz_attempt"
QUIZ_REVIEW = "quiz_review"


def runs_root() -> Path:
    """The folder of runs and their index."""
    return checkpoints_root()


def cache_root() -> Path:
    """Where results that can be made again are kept between starts of the server (reports of the data doctor)."""
    return runs_root() / ".cache"


def take_from_address(key: str, default: str, among: Collection[str] = ()) -> None:
    """Before a widget is drawn: what the address asks for anew goes into the session, else what was chosen stays.

    (Streamlit's own binding to query parameters forbids leaving a page by ``st.switch_page``.)
    """
    given = st.query_params.get(key)
    if given and given != st.session_state.get(_seen(key)) and (not among or given in among):
        st.session_state[key] = given
    elif not st.session_state.get(key):
        st.session_state[key] = st.session_state.get(_seen(key)) or default


def put_into_address(key: str, value: str) -> None:
    """After a widget was drawn: the address names what is chosen, so it can be shared and loaded again."""
    st.session_state[_seen(key)] = value
    if st.query_params.get(key) != value:
        st.query_params[key] = value


def _seen(key: str) -> str:
    return f"{key}.in_address"
