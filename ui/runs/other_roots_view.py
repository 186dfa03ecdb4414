"""Runs of other roots in a shared database: their table on the Runs page, and the selected one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import streamlit as st

from core.errors import RunError
from core.formatting import format_duration, format_score
from core.runs import RunSummary
from core.runs.other_roots import SEPARATOR, OtherRun, find_other_run, unreachable_reason
from ui.runs import actions, run_view
from ui.runs.chart.component import run_chart
from ui.runs.runs_table.component import Selection, runs_table
from ui.runs.selection import open_run
from ui.runs.states import title_with_state
from ui.shared import cache, formatting
from ui.shared.query_params import query_params
from ui.shared.state import GROUP, RUN_PARAMETER

NOT_SHOWN = "Runs in other folders and quiz answers cannot be shown. Curves of these runs come from their folders."


def is_other(run_id: str | None) -> bool:
    """Whether an id of the URL is that of a run of another root."""
    return SEPARATOR in (run_id or "")


def show_other_roots(
    root: Path, selected: str | None, matches: Callable[[RunSummary, str], bool] | None = None
) -> None:
    """Show the table of the runs of other roots, updated every five seconds; nothing where there are none.

    Parameters
    ----------
    root : Path. Folder of the runs.
    selected : str, optional. Id in the URL.
    matches : callable, optional. Whether a run passes the filter of the page.
    """

    @st.fragment(run_every=5.0)
    def fragment() -> None:
        others = cache.other_runs(root)
        if others.problem:
            st.warning(
                f"**The database cannot be used.** {formatting.plain(others.problem)}  \n{NOT_SHOWN}",
                icon=":material/cloud_off:",
            )
        if not others.runs:
            return
        rows = [_row(run) for run in others.runs]
        rows = [row for row in rows if matches is None or matches(row, "")]
        places = formatting.count(len({run.place for run in others.runs}), "other folder")
        st.subheader(f"In {places}", anchor=False)
        if rows:
            runs_table(rows, Selection(selected, tickable=False), on_choose=open_run, key="other_runs_table")
        else:
            st.caption("No run matches this filter.")
        now = None if query_params.get(GROUP) else query_params.get(RUN_PARAMETER)
        if is_other(now) and now != selected:
            st.rerun()

    fragment()


def show_other_run(root: Path, key: str) -> None:
    """Show a run of another root: as its own root does where its folder can be read, else what the database holds."""
    try:
        other = find_other_run(root, key)
    except RunError as error:
        st.warning(formatting.plain(str(error)), icon=":material/search_off:")
        return
    run, shown = other.summary, replace(other.summary, id=key)
    if other.root is not None:
        actions.header(other.root, run, review=False)
        st.caption(formatting.plain(f"In {other.place}"))
        run_view.report_problem(run)
        waits = run.state.state in formatting.WAITING_OR_ACTIVE
        run_view.status(other.root, run.id, every_s=2.0 if waits else None)
        run_chart([shown], key, {})
        run_view.details(other.root, run)
        return
    _header(other)
    st.info(formatting.plain(unreachable_reason(other)), icon=":material/lock:")
    if run.state.message:
        st.caption(formatting.plain(formatting.sentence(run.state.message)))
    _numbers(run)
    run_chart([shown], key, {})


def _row(run: OtherRun) -> RunSummary:
    return replace(run.summary, id=run.key, tags=(*run.summary.tags, run.place))


def _header(other: OtherRun) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        title_with_state(other.summary.name, other.summary.state.state)
        st.caption(formatting.plain(f"in {other.place}"), width="content")


def _numbers(run: RunSummary) -> None:
    state, score = run.state, run.state.score
    with st.grid("auto", min_column_width=128, gap="small"):
        st.metric("Best mean Dice", format_score(score.mean_dice if score else None))
        st.metric("Epoch", f"{state.epoch} / {formatting.total_epochs(run)}" if state.epochs else "–")
        st.metric("Elapsed", format_duration(state.elapsed_s or None))
