"""The table of runs as a Streamlit component: one row per run or group; a click or Enter selects it, a tick adds the
curves of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from core.formatting import format_duration, format_score
from core.runs import RunSummary
from core.runs.groups import GroupSummary
from ui.shared import formatting
from ui.shared.component import component

_mount = component("runs", Path(__file__).parent, ("../../shared/roving_focus.js", "table.js"), ("table.css",))


@dataclass(frozen=True)
class Selection:
    """What is marked in the table.

    Attributes
    ----------
    run : str, optional. Id of the highlighted run or group.
    ticked : mapping. By id of each ticked run the colour ``#rrggbb`` of its curves.
    full : bool. Whether no more runs can be ticked.
    tickable : bool. Whether rows have a box to tick at all.
    """

    run: str | None = None
    ticked: Mapping[str, str] | None = None
    full: bool = False
    tickable: bool = True


def runs_table(
    runs: Sequence[RunSummary | GroupSummary],
    selection: Selection,
    queue: Sequence[str] = (),
    *,
    on_choose: Callable[[str], None],
    on_tick: Callable[[str], None] | None = None,
    key: str = "runs_table",
) -> None:
    """Show the table, which can be sorted by each column.

    Parameters
    ----------
    runs : sequence of RunSummary or GroupSummary. Rows from top to bottom.
    selection : Selection. Highlighted and ticked runs.
    queue : sequence of str. Ids of the queued runs in the order in which they will start.
    on_choose, on_tick : callable. Called with the id of a run or group that was selected, or of a run whose tick was
        set or removed, before the page runs, so that a click counts even if the next one interrupts the page.
    key : str. Key of the component.
    """
    taken = f"{key}.taken"  # session key: time of the last click that was taken, in ms

    def take_clicks() -> None:
        """Call the receivers for the clicks that came since the last ones."""
        receivers = {"choose": on_choose, "tick": on_tick}
        last = st.session_state.get(taken, 0)
        for time_ms, what, run_id in st.session_state[key].get("clicks") or ():
            if time_ms > last and (receiver := receivers[what]) is not None:
                receiver(run_id)
                st.session_state[taken] = time_ms

    rows = [group_row(run) if isinstance(run, GroupSummary) else row(run, queue) for run in runs]
    ticked = dict(selection.ticked or {})
    data = {
        "rows": rows,
        "selected": selection.run,
        "ticked": ticked,
        "full": selection.full,
        "tickable": selection.tickable,
    }
    _mount(key=key, data=data, on_clicks_change=take_clicks)


def row(run: RunSummary, queue: Sequence[str] = ()) -> dict[str, Any]:
    """The cells of a run as text, and in ``sort`` the numbers by which other columns are sorted."""
    state, score = run.state, run.state.score
    stalled_s = state.stalled_s(time.time())
    position = f" {queue.index(run.id) + 1}" if len(queue) > 1 and run.id in queue else ""
    title = f"{state.state}: {state.message}" if state.message else state.state
    started_at = state.started_at or state.created_at
    progress = run.progress
    return {
        "id": run.id,
        "group": False,
        "name": run.name,
        "tags": list(run.tags),
        "state": state.state,
        "shown": f"{state.state}{position}" if stalled_s is None else "stalled",
        "title": title if stalled_s is None else f"{title}; no update for {format_duration(stalled_s)}",
        "data": Path(run.config.data.path).name or "–",
        "preset": run.config.preset,
        "epoch": f"{state.epoch}/{formatting.total_epochs(run)}" if state.epochs else "",
        "share": progress,
        "left": "" if progress is None else f"{progress:.0%}, {format_duration(state.remaining_s)} left",
        "dice": format_score(score.mean_dice if score else None),
        "on": (score.measured_on or "") + ("" if state.score_is_final else ", so far") if score else "",
        "started": formatting.ago(started_at),
        "started_at": formatting.moment(started_at),
        "length": format_duration(state.elapsed_s or None),
        "sort": {
            "epoch": state.epoch or None,
            "dice": score.mean_dice if score else None,
            "started": started_at or None,
            "length": state.elapsed_s or None,
        },
    }


def group_row(summary: GroupSummary) -> dict[str, Any]:
    """The cells of a group as those of :func:`row`, over all of its runs."""
    group, dice, state = summary.group, summary.mean_dice, summary.state
    started = [run.state.started_at or run.state.created_at for run in summary.runs]
    started_at = min(started, default=group.created_at)
    elapsed_s = sum(run.state.elapsed_s for run in summary.runs)
    return {
        "id": group.id,
        "group": True,
        "name": group.name,
        "tags": [formatting.count(summary.total, summary.noun)],
        "state": state,
        "shown": state,
        "title": f"{summary.finished} of {formatting.count(summary.total, 'run')} finished",
        "data": Path(group.config.data.path).name or "–",
        "preset": group.config.preset,
        "epoch": f"{summary.finished}/{summary.total} runs",
        "share": summary.progress if state in formatting.WAITING_OR_ACTIVE else None,
        "left": f"{summary.progress:.0%} of all runs",
        "dice": format_score(dice),
        "on": summary.measured,
        "started": formatting.ago(started_at),
        "started_at": formatting.moment(started_at),
        "length": format_duration(elapsed_s or None),
        "sort": {
            "epoch": summary.finished,
            "dice": dice,
            "started": started_at or None,
            "length": elapsed_s or None,
        },
    }
