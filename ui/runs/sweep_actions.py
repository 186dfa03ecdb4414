"""Buttons of a sweep: stop, resume, more trials, and what to do with the best trial."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import streamlit as st

from core import runs
from core.config import TrainConfig
from core.errors import UserError
from core.runs import groups, sweeps
from core.runs.group_summary import SweepSummary
from core.runs.store.folder import name_with
from core.sweeps.settings import MORE_TRIALS
from ui.runs.actions import attempt, resume_button
from ui.runs.selection import open_group, open_run
from ui.shared.errors import error_box
from ui.shared.places import where

RESUME_HELP = "Trials that were stopped, died or never began go on, and new ones follow."
LONGER = 4  # times the budget of a trial, as a suggestion


def render(root: Path, summary: SweepSummary) -> None:
    """Show the buttons that the state of a sweep allows."""
    group = summary.group
    if summary.active or summary.proposes:
        _stop(root, summary)
    elif _can_resume(summary):
        was, key = groups.engine_of_group(summary), f"resume-{group.id}"
        clicked, engine = resume_button(root, was, key, type="primary", help=RESUME_HELP)
        if clicked:
            attempt(partial(groups.resume_group, engine=engine), root, group)
    if not summary.settings.exhausted and summary.settings.space:
        with st.popover("More trials", icon=":material/add:", key=f"extend-{group.id}"):
            number = st.number_input("Further trials", 1, 1000, MORE_TRIALS, key=f"more-{group.id}")
            if st.button("Add them", type="primary", key=f"extend-now-{group.id}"):
                attempt(sweeps.extend, root, group, int(number))
    if (config := sweeps.best_config(summary)) is not None:
        _use_best(root, summary, config)


def _can_resume(summary: SweepSummary) -> bool:
    return summary.proposes_if_reopened or bool(groups.resumable_runs(summary))


def _stop(root: Path, summary: SweepSummary) -> None:
    group = summary.group
    with st.popover("Stop", icon=":material/stop:", key=f"stop-{group.id}"):
        st.write("It can be resumed at any time.")
        if summary.proposes and st.button("Finish the running trials, start no more", key=f"no-more-{group.id}"):
            attempt(groups.end_proposals, root, group)
        if st.button("Stop all now", type="primary", key=f"stop-now-{group.id}"):
            attempt(groups.stop_group, root, group)


def _use_best(root: Path, summary: SweepSummary, config: TrainConfig) -> None:
    """Train with the values of the best trial: all folds, or longer."""
    group = summary.group
    with st.popover("Train the best", icon=":material/trophy:", key=f"best-{group.id}"):
        st.write("New runs with the settings of the best trial.")
        by_time = config.run.minutes > 0
        present = config.run.minutes if by_time else float(config.run.epochs)
        budget = st.number_input(
            "Minutes" if by_time else "Epochs",
            min_value=1.0,
            value=max(1.0, present * LONGER),
            step=1.0,
            format="%.0f",
            key=f"budget-{group.id}",
            help=f"The trials had {present:g}.",
        )
        longer = config.with_values({"minutes": float(budget)} if by_time else {"epochs": int(budget)})
        engine = where(root, groups.engine_of_group(summary), f"best-where-{group.id}")
        if not config.split.val_subjects and st.button("Train all folds", type="primary", key=f"folds-{group.id}"):
            name = name_with(group.given_name, "best folds")
            _start(lambda: groups.submit_folds(root, longer, name, engine=engine).id, open_group)
        if st.button("Train this fold", key=f"longer-{group.id}"):
            name = name_with(group.given_name, "best")
            _start(lambda: runs.submit(root, longer, name, engine=engine), open_run)


def _start(submit: Callable[[], str], show: Callable[[str], None]) -> None:
    """Queue a run or a group, and show it."""
    try:
        id = submit()
    except UserError as error:
        error_box(error)
        return
    show(id)
    st.rerun()
