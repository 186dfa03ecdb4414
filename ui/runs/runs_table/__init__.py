"""The table of runs: one row each, state dot first, numbers right-aligned; a click or Enter chooses a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core.formatting import format_duration, format_score
from core.runs import RunSummary
from ui.shared import formatting

_HERE = Path(__file__).parent

_mount = st.components.v2.component(
    "segmentarium_runs",
    html='<div class="root"></div>\n',
    css=(_HERE / "table.css").read_text(encoding="utf-8"),
    js=(_HERE / "table.js").read_text(encoding="utf-8"),
)


def runs_table(
    runs: Sequence[RunSummary], selected: str | None, queue: Sequence[str] = (), key: str = "runs_table"
) -> str | None:
    """Draw the table; returns the id of a run that was chosen just now, else ``None``. ``queue``: ids in the order in
    which they will start."""
    result = _mount(
        key=key,
        data={"rows": [row(run, queue) for run in runs], "selected": selected},
        on_chosen_change=lambda: None,
    )
    return result.chosen


def row(run: RunSummary, queue: Sequence[str] = ()) -> dict[str, Any]:
    """What the table shows of a run, as text."""
    state = run.state
    silent = state.stalled_s(time.time())
    place = f" {queue.index(run.id) + 1}" if len(queue) > 1 and run.id in queue else ""
    title = f"{state.state}: {state.message}" if state.message else state.state
    about = "~" if state.active and run.config.run.minutes else ""
    progress = f"{state.epoch}/{about}{state.epochs}" if state.epochs else ""
    took = state.elapsed_s or None
    return {
        "id": run.id,
        "name": run.name,
        "tags": list(run.tags),
        "state": state.state,
        "shown": "silent" if silent is not None else f"{state.state}{place}",
        "title": title if silent is None else f"{title}; no sign of life for {format_duration(silent)}",
        "data": Path(run.config.data.path).name or "–",
        "preset": run.config.preset,
        "epoch": progress,
        "share": min(1.0, state.epoch / state.epochs) if state.epochs and state.active else None,
        "dice": format_score(state.best.mean_dice if state.best else None),
        "on": (state.best.measured_on or "") if state.best else "",
        "started": formatting.ago(state.started_at or state.created_at),
        "length": format_duration(took),
    }
