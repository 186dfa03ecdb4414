"""The card of a run on the Home page: its progress while it trains, afterwards its results and what to do with them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core import runs
from core.formatting import format_duration, format_score
from core.runs import RunSummary
from ui.runs.chart.component import sparkline
from ui.runs.results import class_dice
from ui.runs.states import STATE_COLOURS
from ui.shared import formatting
from ui.shared.navigation import page
from ui.shared.state import MODEL, RUN_PARAMETER


def run_card(root: Path, run: RunSummary) -> None:
    """Show a run."""
    state = run.state
    with st.container(border=True, gap="xsmall", height="stretch"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link(page("runs"), label=formatting.plain(run.name), query_params={RUN_PARAMETER: run.id})
            st.space("stretch")
            st.badge(state.state, color=STATE_COLOURS[state.state])
        if state.state in formatting.WAITING_OR_ACTIVE:
            _progress(run)
        else:
            class_dice(root, run)
            st.caption(_result(run))
        if runs.run_checkpoint(run.folder) is not None:
            _next(run)


def _progress(run: RunSummary) -> None:
    """Mean Dice as a line, the share of the time that has passed, and the figures of this moment."""
    state = run.state
    if not state.epoch:
        st.caption(formatting.plain(formatting.sentence(state.what or "queued")))
        return
    sparkline(run.id)
    if state.remaining_s is not None and state.elapsed_s > 0:
        st.progress(min(1.0, state.elapsed_s / (state.elapsed_s + state.remaining_s)))
    epochs = f" / {formatting.total_epochs(run)}" if state.epochs else ""
    left = f"{format_duration(state.remaining_s)} left" if state.remaining_s is not None else ""
    best = state.best
    dice = f"Dice {format_score(best.mean_dice)} so far, {formatting.plain(best.measured_on)}" if best else ""
    st.caption(" · ".join(part for part in (f"epoch {state.epoch}{epochs}", left, dice) if part))


def _result(run: RunSummary) -> str:
    """Data set, mean Dice with what it was measured on, training time, and when the run ended."""
    best = run.state.best
    measured = f"mean Dice {format_score(best.mean_dice)}, {best.measured_on}" if best else "no measurement"
    data = run.config.data.path.rstrip("/").rsplit("/", 1)[-1]
    trained = f"trained {format_duration(run.state.elapsed_s)}" if run.state.elapsed_s else ""
    parts = (formatting.plain(data), formatting.plain(measured), trained, formatting.ago(run.state.ended_at))
    return " · ".join(part for part in parts if part)


def _next(run: RunSummary) -> None:
    """Links to the pages that use the model of a run."""
    with st.container(horizontal=True, gap="small"):
        for name, label, icon in (
            ("review", "Review", ":material/compare:"),
            ("predict", "Segment a scan", ":material/imagesmode:"),
            ("quiz", "Quiz", ":material/quiz:"),
        ):
            st.page_link(page(name), label=label, icon=icon, query_params={MODEL: run.id}, width="content")
