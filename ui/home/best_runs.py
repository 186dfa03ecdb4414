"""The best run of each data set, for a page that compares at a glance."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from core.runs import RunSummary
from core.runs.store.state import Best
from ui.home.run_card import data_name, dice_of
from ui.shared import formatting
from ui.shared.navigation import page
from ui.shared.state import RUN_PARAMETER

MAX_ROWS = 8


def best_runs(all_runs: Iterable[RunSummary]) -> list[tuple[RunSummary, int]]:
    """Per data set the run with the highest mean Dice and the number of its measured runs, the most used set first.

    Only runs that were measured in the same way are compared: on whole volumes, where one of them was.
    """
    by_data: dict[str, list[RunSummary]] = {}
    for run in all_runs:
        if _score(run).mean_dice is not None:
            by_data.setdefault(run.config.data.path, []).append(run)
    return sorted(((_best(measured), len(measured)) for measured in by_data.values()), key=lambda row: -row[1])


def best_runs_table(all_runs: Iterable[RunSummary]) -> None:
    """Show the best run of each data set; nothing where no data set has two measured runs."""
    rows = best_runs(all_runs)
    if not any(count > 1 for _, count in rows):
        return
    st.header("Best of each data set", anchor=False)
    for run, count in rows[:MAX_ROWS]:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            with st.container(width=200):
                st.markdown(f"**{formatting.plain(data_name(run))}**")
            with st.container(width=230):
                st.page_link(page("runs"), label=formatting.plain(run.name), query_params={RUN_PARAMETER: run.id})
            of_several = f" · the best of {formatting.count(count, 'run')}" if count > 1 else ""
            st.caption(dice_of(run) + of_several, width="stretch")


def _best(measured: list[RunSummary]) -> RunSummary:
    whole = [run for run in measured if "whole" in (_score(run).measured_on or "")]
    return max(whole or measured, key=lambda run: _score(run).mean_dice or 0.0)


def _score(run: RunSummary) -> Best:
    return run.state.score or Best(0, None, None)
