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

PICTURE_WIDTH = 150  # pixels


def run_card(root: Path, run: RunSummary) -> None:
    """Show a run."""
    state = run.state
    with st.container(border=True, gap="xsmall", height="stretch"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link(page("runs"), label=formatting.plain(run.name), query_params={RUN_PARAMETER: run.id})
            st.space("stretch")
            st.badge(state.state, color=STATE_COLOURS[state.state])
        active = state.state in formatting.WAITING_OR_ACTIVE
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            _picture(run)
            with st.container(gap="xsmall"):
                if active:
                    _activity(run)
                else:
                    class_dice(root, run)
        if state.state in runs.OBSERVED or (state.state == "queued" and state.message):
            st.caption(formatting.plain(formatting.sentence(state.message)))
        st.caption(_figures(run) if active else _result(run))
        if runs.run_checkpoint(run.folder) is not None:
            _next(run)


def dice_of(run: RunSummary) -> str:
    """The mean Dice of a run with what it was measured on; empty before the first measurement."""
    score = run.state.score
    if score is None or score.mean_dice is None:
        return ""
    so_far = "" if run.state.score_is_final else " so far"
    return f"Dice {format_score(score.mean_dice)}{so_far}, {formatting.plain(score.measured_on or 'held-out subjects')}"


def _picture(run: RunSummary) -> None:
    """A slice of the last validation: image, reference and prediction."""
    pictures = runs.list_pictures(run.folder)
    if pictures:
        shown = pictures[-1]
        st.image(
            shown.path, width=PICTURE_WIDTH, alt=f"Image, reference and prediction of a slice after epoch {shown.epoch}"
        )


def _activity(run: RunSummary) -> None:
    """The line of the mean Dice and the share of the time that has passed; before the first epoch, what is prepared."""
    state = run.state
    if not state.epoch and state.total:
        st.progress(min(1.0, state.done / state.total))
    if state.epoch:
        sparkline(run.id)
        if run.progress is not None:
            st.progress(run.progress)


def _figures(run: RunSummary) -> str:
    """Epoch, time left and Dice so far; before the first epoch, what is prepared."""
    state = run.state
    if not state.epoch:
        return formatting.plain(formatting.sentence(state.what or "queued"))
    epochs = f" / {formatting.total_epochs(run)}" if state.epochs else ""
    left = f"{format_duration(state.remaining_s)} left" if state.remaining_s is not None else ""
    return " · ".join(part for part in (f"epoch {state.epoch}{epochs}", left, dice_of(run)) if part)


def _result(run: RunSummary) -> str:
    """Data set, mean Dice with what it was measured on, training time, and when the run ended."""
    trained = f"trained {format_duration(run.state.elapsed_s)}" if run.state.elapsed_s else ""
    data = formatting.plain(data_name(run))
    parts = (data, dice_of(run) or "no measurement", trained, formatting.ago(run.state.ended_at))
    return " · ".join(part for part in parts if part)


def data_name(run: RunSummary) -> str:
    """The name of the folder that a run was trained on."""
    return run.config.data.path.rstrip("/").rsplit("/", 1)[-1]


def _next(run: RunSummary) -> None:
    """Links to the pages that use the model of a run."""
    with st.container(horizontal=True, gap="small"):
        for name, label, icon in (
            ("review", "Review", ":material/compare:"),
            ("predict", "Segment a scan", ":material/imagesmode:"),
            ("quiz", "Quiz", ":material/quiz:"),
        ):
            st.page_link(page(name), label=label, icon=icon, query_params={MODEL: run.id}, width="content")
