"""The pages of the app: names, titles, icons, links, and the title of the browser tab.

A page is a file of the same name in ``pages/`` and a line in ``PAGES``.
"""

from __future__ import annotations

from typing import NoReturn

import streamlit as st

from core.paths import project_root
from ui.shared.query_params import query_params

APP_NAME = "Segmentarium"
_QUERY = "query_of_next_page"  # session key
PAGES = {  # in the order of the navigation; the first is the start page
    "home": ("Home", ":material/home:"),
    "learn": ("Learn", ":material/school:"),
    "data": ("Data", ":material/database:"),
    "train": ("Train", ":material/model_training:"),
    "runs": ("Runs", ":material/monitoring:"),
    "review": ("Review", ":material/compare:"),
    "predict": ("Predict", ":material/imagesmode:"),
    "quiz": ("Quiz", ":material/quiz:"),
}


def page(name: str) -> st.Page:
    """A page by name, for links and ``st.switch_page``; a new object per call, as it holds state of the session."""
    title, icon = PAGES[name]
    path = project_root() / "pages" / f"{name}.py"  # absolute: Streamlit resolves relative paths from ui/shell.py
    return st.Page(path, title=title, icon=icon, default=name == next(iter(PAGES)))


def go_to(name: str, **query: str) -> NoReturn:
    """Switch to a page with query parameters.

    ``st.switch_page`` writes the parameters of the new page into the address of the old one first; here both keep their
    own, and :func:`arrive` gives the new page its parameters.
    """
    st.session_state[_QUERY] = query
    st.switch_page(page(name), query_params=dict(query_params))


def arrive() -> None:
    """Set the query parameters of the page that :func:`go_to` has switched to (called before a page runs).

    Without such a switch the browser gets those with which it asked for the page: after "Back", a late message of the
    other page may have replaced those that it sends with its next request.
    """
    if (query := st.session_state.pop(_QUERY, None)) is not None:
        query_params.replace(query)
    else:
        query_params.send()  # sends all of them


def tab_title(*parts: str) -> None:
    """Set the title of the browser tab: what matters most first, then the name of the app.

    Parameters
    ----------
    parts : str. Plain text; empty ones are left out.
    """
    st.set_page_config(page_title=" — ".join(filter(None, (" · ".join(filter(None, parts)), APP_NAME))))


def all_pages() -> list[st.Page]:
    """All pages in the order of the navigation."""
    return [page(name) for name in PAGES]
