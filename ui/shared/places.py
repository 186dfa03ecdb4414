"""The choice of the engine that trains: this machine, or one that the root declares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from core.errors import UserError
from core.runs.engines.registry import get_engine, list_engines
from core.runs.store.engine_records import LOCAL
from ui.shared import formatting

HELP = "Where it trains. Clusters are declared in engines.toml in the folder of the runs."


def places(root: Path, was: str = LOCAL) -> dict[str, str]:
    """Titles of the engines by name, where there is something to choose; else empty.

    Parameters
    ----------
    root : Path. Checkpoints root.
    was : str. Name of the engine on which a run was, which may not be declared any more.
    """
    try:
        titles = {engine.name: engine.title for engine in list_engines(root)}
    except UserError:  # the list of engines says why; this machine can be chosen
        titles = {LOCAL: get_engine(root, LOCAL).title}
    return titles if len(titles) > 1 or was not in titles else {}


def where(root: Path, was: str, key: str) -> str:
    """A box with the engines where there is a choice; returns the name of the chosen one, else that of ``was``."""
    titles = places(root, was)
    return choose_place(titles, was, key) if titles else was


def choose_place(titles: Mapping[str, str], was: str, key: str) -> str:
    """A box with the engines; returns the name of the chosen one.

    Parameters
    ----------
    titles : mapping. Titles by name (:func:`places`).
    was : str. Name of the engine on which the run was, which is chosen at first.
    key : str. Session key.
    """
    names = list(titles)
    if was not in titles:
        st.caption(f"{formatting.plain(was)}, where it was, is not declared in engines.toml any more.")
    index = names.index(was) if was in titles else 0
    chosen = st.selectbox("Where", names, index, format_func=lambda name: titles.get(name, name), key=key, help=HELP)
    return chosen or LOCAL
