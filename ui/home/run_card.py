"""The card of a run on the Home page: its progress while it trains, afterwards its results and what to do with them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core import runs
from core.formatting import format_duration, format_score
from core.runs import RunSummary
from core.runs.group_summary import GroupSummary, SweepSummary
from ui.home.shown_runs import ShownRun
from ui.runs.chart.component import sparkline
from ui.runs.group_actions import progress_text
from ui.runs.results import class_dice
from ui.runs.states import STATE_COLOURS
from ui.shared import formatting
from ui.shared.navigation import page
from ui.shared.state import GROUP, MODEL, RUN_PARAMETER

PICTURE_WIDTH = 150  # pixels


def run_card(root: Path, shown: ShownRun) -> None:
    """Show a run, or a group of runs by one of them."""
    run, group = shown.run, shown.group
    state = run.state
    of_one = group is None or isinstance(group, SweepSummary)  # not of folds, whose result is that of all of them
    with st.container(border=True, gap="xsmall", height="stretch"):
        _title(shown)
        active = state.state in formatting.WAITING_OR_ACTIVE
        if group is not None:
            st.caption(_group_figures(group))
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            _picture(run)
            with st.container(gap="xsmall"):
                if active:
                    _activity(run)
                elif of_one:
                    class_dice(root, run)
        if state.state in runs.OBSERVED or (state.state == "queued" and state.message):
            st.caption(formatting.plain(formatting.sentence(state.message)))
        name = f"{formatting.plain(run.name)}: " if group is not None else ""
        if active:
            st.caption(name + _figures(run))
        elif of_one:
            st.caption(name + _result(run))
        if of_one and runs.run_checkpoint(run.folder) is not None:
            _next(run)


def _title(shown: ShownRun) -> None:
    """The name with a link, and the state."""
    run, group = shown.run, shown.group
    label, query, icon = run.name, {RUN_PARAMETER: run.id}, ":material/monitoring:"
    if group is not None:
        label, query, icon = group.group.name, {GROUP: group.group.id}, ":material/stacks:"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(page("runs"), label=f"**{formatting.plain(label)}**", icon=icon, query_params=query)
        st.space("stretch")
        st.badge(shown.state, color=STATE_COLOURS[shown.state])


def _group_figures(group: GroupSummary) -> str:
    """How many runs of a group are done, and their Dice with what it is."""
    dice = f"Dice {format_score(group.mean_dice)}, {group.measured}" if group.mean_dice is not None else ""
    return " · ".join(part for part in (progress_text(group), dice) if part)


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
