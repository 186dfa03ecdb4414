"""The engines of the root on the Runs page: whether each answers, and what trains and waits on it and why."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from core.errors import UserError
from core.runs import engine_poller
from core.runs.engine_poller import EngineStatus
from core.runs.engines.registry import declares_engines
from ui.shared import formatting
from ui.shared.engine_badge import engine_badge
from ui.shared.errors import error_box

COLUMNS = ("run", "state", "where or why", "job")
WIDTHS = ("24%", "13%", "45%", "18%")
_TABLE = "width:100%;table-layout:fixed;border-collapse:collapse;font-size:13px"
_HEADER = "opacity:.75"
_CELL = "padding:4px 9px 4px 0;text-align:left;font-weight:400;overflow-wrap:anywhere"
_LINE = "border-top:1px solid color-mix(in srgb, currentColor 14%, transparent)"


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
    engine_poller.note_shown(root)
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
    return ", ".join(parts) if parts else engine_poller.IDLE


def _show(engine: EngineStatus) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{formatting.plain(engine.title)}**", width="content")
        engine_badge(engine.answers, engine.sentence)
    if engine.runs:
        _table(engine)


def _table(engine: EngineStatus) -> None:
    """The runs of an engine; reasons are sentences, which wrap, and columns are below those of the other engines."""
    columns = "".join(f'<col style="width:{width}">' for width in WIDTHS)
    rows = [_line("th", COLUMNS, _HEADER)]
    rows += [_line("td", (run.name, run.state, run.detail, run.job), _LINE) for run in engine.runs]
    label = html.escape(f"Runs on {engine.title}", quote=True)
    st.html(f'<table style="{_TABLE}" aria-label="{label}"><colgroup>{columns}</colgroup>{"".join(rows)}</table>')


def _line(tag: str, cells: Sequence[str], style: str) -> str:
    inside = "".join(f'<{tag} style="{_CELL}">{html.escape(cell)}</{tag}>' for cell in cells)
    return f'<tr style="{style}">{inside}</tr>'
