"""Keys of the session and query parameters of the URL that pages share.

A key that only one page uses is defined beside its widget.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import streamlit as st

from ui.shared.formatting import plain
from ui.shared.query_params import query_params

# Query parameters. They are widget keys too: the choice moves from page to page and is part of a copied URL.
DATA = "data"
PRESET = "preset"
RUN_PARAMETER = "run"
GROUP = "group"
COMPARED = "compare"  # ids of the runs whose curves are shown over each other
MODEL = "model"
CASE = "case"
CROSSHAIR = "at"  # voxel index, counted from 1
LOOK = "look"  # of the viewer: panes, window, overlay
QUIZ_GAME = "game"
RESULT = "result"
SUBJECT = "subject"
UPLOADS = "uploads"
VIEW = "view"

NOUNS = {
    DATA: "data set", PRESET: "preset", MODEL: "model", CASE: "case", SUBJECT: "subject", VIEW: "view",
    "reference": "file", "segmentation": "file",
}  # fmt: skip

# Session keys.
_PAGE = "page_of_last_run"
_UNKNOWN = "unknown_in_address"
_WRITTEN = "written_to_address"  # values by query parameter, of the page that runs


@dataclass(frozen=True)
class _Unknown:
    """A value of the URL that was not accepted; ``shown`` is the value that the session has instead."""

    noun: str
    value: str
    shown: object
    ambiguous: bool


def load_from_url(
    key: str, default: str, allowed: Collection[str] = (), parameter: str = "", ambiguous: bool = False
) -> None:
    """Set a widget's value in the session before the widget is created: a new value in the URL, else the present
    choice, else the default. A value that is not accepted is reported above the page.

    Streamlit's own binding of widgets to query parameters does not allow ``st.switch_page``.

    Parameters
    ----------
    key : str. Key of the widget.
    default : str. Value without a choice.
    allowed : collection of str, optional. Values that are accepted from the URL; all if empty.
    parameter : str, optional. Name of the query parameter; by default the key.
    ambiguous : bool. Whether a value of the URL that is not accepted may mean several of ``allowed``.
    """
    name = parameter or key
    given = query_params.get(name)
    is_new = bool(given) and given != st.session_state.get(_WRITTEN, {}).get(name)
    accepted = not allowed or given in allowed
    if is_new and accepted:
        st.session_state[key] = given
    elif not st.session_state.get(key) and (default or key not in st.session_state):  # "" may be a choice
        synced = st.session_state.get(_synced(key))
        st.session_state[key] = synced if synced and (not allowed or synced in allowed) else default
    if is_new:
        unknown = st.session_state.setdefault(_UNKNOWN, {})
        unknown.pop(key, None)
        if not accepted:
            unknown[key] = _Unknown(NOUNS.get(name, "value"), str(given), st.session_state[key], ambiguous)


def save_to_url(key: str, value: str, parameter: str = "", default: str | None = None) -> None:
    """Write a widget's value into the URL after the widget was created, so that the URL can be shared and reloaded.

    Parameters
    ----------
    key, parameter : as for :func:`load_from_url`.
    value : str. The value.
    default : str, optional. A value that the URL does not need to name.
    """
    st.session_state[_synced(key)] = value
    name = parameter or key
    st.session_state.setdefault(_WRITTEN, {})[name] = value
    if value == default:
        query_params.pop(name, None)
    elif query_params.get(name) != value:
        query_params[name] = value


def is_new_page(page: str) -> bool:
    """Whether the last run was that of another page, whose reports are forgotten (called once, before a page runs)."""
    if st.session_state.get(_PAGE) == page:
        return False
    st.session_state[_PAGE] = page
    st.session_state.pop(_UNKNOWN, None)
    st.session_state.pop(_WRITTEN, None)
    return True


def report_unknown_values() -> None:
    """Report values of the URL that the page does not know, until another one is chosen (called after a page ran)."""
    for key, unknown in dict(st.session_state.get(_UNKNOWN, {})).items():
        if key in st.session_state and st.session_state[key] != unknown.shown:
            del st.session_state[_UNKNOWN][key]
            continue
        reason = (
            f"several {unknown.noun}s have this name" if unknown.ambiguous else "it may have been renamed or deleted"
        )
        st.warning(
            f"There is no {unknown.noun} called {plain(unknown.value)} here: {reason}. "
            f"{'Another one is shown.' if unknown.shown else 'None is chosen.'}",
            icon=":material/search_off:",
        )


def _synced(key: str) -> str:
    """Session key of the value of a widget that the URL last had."""
    return f"{key}.in_address"
