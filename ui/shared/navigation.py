"""The pages and their addresses, by name."""

from __future__ import annotations

import streamlit as st

from ui.shared.state import PROJECT

_FOLDER = PROJECT / "pages"  # absolute: Streamlit would look beside the shell

_PAGES = {
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
    """A page by its name, for links and switches. Made anew each time: Streamlit keeps a session's state in it."""
    title, icon = _PAGES[name]
    return st.Page(_FOLDER / f"{name}.py", title=title, icon=icon, default=name == "home")


def all_pages() -> list[st.Page]:
    """All pages in the order of the navigation."""
    return [page(name) for name in _PAGES]
