"""The choice where to train on the Train page: this machine, or an engine that the root declares."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core.errors import UserError
from core.runs import engine_poller
from core.runs.engines.registry import declares_engines, get_engine, list_engines
from core.runs.store.engine_records import LOCAL
from ui.shared.engine_badge import engine_badge
from ui.shared.errors import error_box

ENGINE = "train_engine"


def chosen(root: Path) -> str:
    """The name of the engine that is chosen, before it is asked for (:func:`choose`)."""
    name = str(st.session_state.get(ENGINE) or LOCAL)
    try:
        return name if name in (engine.name for engine in list_engines(root)) else LOCAL
    except UserError:  # shown where it is asked for
        return LOCAL


def choose(root: Path) -> str:
    """The name of the chosen engine; asked only where there is more than this machine."""
    if not declares_engines(root):
        return LOCAL
    try:
        titles = {engine.name: engine.title for engine in list_engines(root)}
    except UserError as error:
        error_box(error)
        return LOCAL
    if st.session_state.get(ENGINE) not in titles:
        st.session_state[ENGINE] = LOCAL
    chosen = st.selectbox(
        "Where",
        list(titles),
        format_func=lambda name: titles.get(name, name),
        key=ENGINE,
        persist_state="session",
        help="Where the run trains. Clusters are declared in engines.toml in the folder of the runs.",
    )
    if chosen and chosen != LOCAL:
        engine_poller.ensure_pollers(root)
        _answers(root, chosen)
    return chosen or LOCAL


@st.fragment(run_every=5.0)
def _answers(root: Path, name: str) -> None:
    """Whether the chosen engine answers, updated every five seconds."""
    engine_poller.note_shown(root)
    try:
        answers, sentence = engine_poller.last_answer(root, get_engine(root, name))
    except UserError:  # no longer declared: the next run of the page says so
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        engine_badge(answers, sentence)
