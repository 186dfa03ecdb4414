"""The game of a browser session; its id is part of the URL."""

from __future__ import annotations

import streamlit as st

from ui.shared.query_params import query_params
from ui.shared.state import QUIZ_GAME


def current_game_id() -> str:
    """Id of the game in the URL or the session; empty if there is none."""
    return str(query_params.get(QUIZ_GAME) or st.session_state.get(QUIZ_GAME) or "")


def enter_game(id: str) -> None:
    """Make a game the current one."""
    st.session_state[QUIZ_GAME] = id
    if query_params.get(QUIZ_GAME) != id:
        query_params[QUIZ_GAME] = id


def leave_game() -> None:
    """Return to the first screen."""
    st.session_state.pop(QUIZ_GAME, None)
    query_params.pop(QUIZ_GAME, None)
