"""Keys of the session and query parameters of the URL that pages share.

A key that only one page uses is defined beside its widget.
"""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st

# Query parameters. They are widget keys too: the choice moves from page to page and is part of a copied URL.
DATA = "data"
PRESET = "preset"
RUN_PARAMETER = "run"
MODEL = "model"
CASE = "case"
CROSSHAIR = "at"  # voxel index, counted from 1
QUIZ_GAME = "game"
RESULT = "result"


def load_from_url(key: str, default: str, allowed: Collection[str] = ()) -> None:
    """Set a widget's value in the session before the widget is created: a new value in the URL, else the present
    choice, else the default.

    Streamlit's own binding of widgets to query parameters does not allow ``st.switch_page``.

    Parameters
    ----------
    key : str. Key of the widget and name of the query parameter.
    default : str. Value without a choice.
    allowed : collection of str, optional. Values that are accepted from the URL; all if empty.
    """
    given = st.query_params.get(key)
    if given and given != st.session_state.get(_synced(key)) and (not allowed or given in allowed):
        st.session_state[key] = given
    elif not st.session_state.get(key):
        st.session_state[key] = st.session_state.get(_synced(key)) or default


def save_to_url(key: str, value: str) -> None:
    """Write a widget's value into the URL after the widget was created, so that the URL can be shared and reloaded."""
    st.session_state[_synced(key)] = value
    if st.query_params.get(key) != value:
        st.query_params[key] = value


def _synced(key: str) -> str:
    """Session key of the value that the URL and the session last had in common."""
    return f"{key}.in_address"
