"""The engines of the root on the Runs page: whether each answers, and what trains and waits on it and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from core.errors import UserError
from core.runs import engine_poller
from core.runs.engine_poller import EngineStatus
from core.runs.engines.registry import declares_engines
from ui.shared import formatting
from ui.shared.errors import error_box


def show_engines(root: Path) -> None:
    """Show every engine in a folded section, updated every five seconds; nothing where only this machine is declared.

    Parameters
    ----------
    root : Path. Checkpoints root.
    """
    if declares_engines(root):
        _section(root)


@st.fragment(run_every=5.0)
def _section(root: Path) -> None:
    try:
        engines = engine_poller.overview(root)
    except UserError as error:
        error_box(error)
        return
    silent = [engine.title for engine in engines if engine.answers is False]
    verb = "does" if len(silent) == 1 else "do"
    label = f"Engines: {', '.join(silent)} {verb} not answer" if silent else f"Engines: {_counts(engines)}"
    icon = ":material/cloud_off:" if silent else ":material/dns:"
    with st.expander(formatting.plain(label), icon=icon, key="engines"):
        for engine in engines:
            _show(engine)


def _counts(engines: Sequence[EngineStatus]) -> str:
    parts = [f"{len(engine.runs)} on {engine.title}" for engine in engines if engine.runs]
    return ", ".join(parts) if parts else "nothing runs or waits"


def _show(engine: EngineStatus) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{formatting.plain(engine.title)}**", width="content")
        if engine.answers is not None:
            answers = engine.answers
            st.badge("answers" if answers else "does not answer", color="green" if answers else "red")
        st.caption(formatting.plain(engine.sentence), width="content")
    if engine.runs:  # a table of text: reasons are sentences, which wrap
        rows = [
            {"run": run.name, "state": run.state, "where or why": run.detail, "job": run.job} for run in engine.runs
        ]
        cells = [{title: formatting.plain(text) for title, text in row.items()} for row in rows]
        st.table(cells, border="horizontal", hide_index=True, alt=f"Runs on {engine.title}")
