"""The table of runs as a Streamlit component: one row per run; a click or Enter selects it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.formatting import format_duration, format_score
from core.runs import RunSummary
from ui.shared import formatting
from ui.shared.component import component

_mount = component("runs", Path(__file__).parent, ("table.js",), ("table.css",))


def runs_table(
    runs: Sequence[RunSummary], selected: str | None, queue: Sequence[str] = (), key: str = "runs_table"
) -> str | None:
    """Show the table.

    Parameters
    ----------
    runs : sequence of RunSummary. Rows from top to bottom.
    selected : str, optional. Id of the highlighted run.
    queue : sequence of str. Ids of the queued runs in the order in which they will start.
    key : str. Key of the component.

    Returns
    -------
    str or None. Id of a run that was clicked since the last run of the page.
    """
    data = {"rows": [row(run, queue) for run in runs], "selected": selected}
    clicked: str | None = _mount(key=key, data=data, on_chosen_change=lambda: None).chosen
    return clicked


def row(run: RunSummary, queue: Sequence[str] = ()) -> dict[str, Any]:
    """The cells of a run as text."""
    state = run.state
    stalled_s = state.stalled_s(time.time())
    position = f" {queue.index(run.id) + 1}" if len(queue) > 1 and run.id in queue else ""
    title = f"{state.state}: {state.message}" if state.message else state.state
    return {
        "id": run.id,
        "name": run.name,
        "tags": list(run.tags),
        "state": state.state,
        "shown": f"{state.state}{position}" if stalled_s is None else "stalled",
        "title": title if stalled_s is None else f"{title}; no update for {format_duration(stalled_s)}",
        "data": Path(run.config.data.path).name or "–",
        "preset": run.config.preset,
        "epoch": f"{state.epoch}/{formatting.total_epochs(run)}" if state.epochs else "",
        "share": min(1.0, state.epoch / state.epochs) if state.epochs and state.active else None,
        "dice": format_score(state.best.mean_dice if state.best else None),
        "on": (state.best.measured_on or "") if state.best else "",
        "started": formatting.ago(state.started_at or state.created_at),
        "length": format_duration(state.elapsed_s or None),
    }
