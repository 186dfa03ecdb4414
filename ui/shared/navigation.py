"""The pages of the app: names, titles, icons and links.

A page is a file of the same name in ``pages/`` and a line in ``PAGES``.
"""

from __future__ import annotations

import streamlit as st

from core.paths import project_root

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


def all_pages() -> list[st.Page]:
    """All pages in the order of the navigation."""
    return [page(name) for name in PAGES]
