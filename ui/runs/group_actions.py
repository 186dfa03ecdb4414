"""The header of a group of runs: name, state, and buttons for what can be done with all of its runs."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path

import streamlit as st

from core import runs
from core.errors import UserError
from core.runs import groups
from core.runs.group_summary import GroupSummary, SweepSummary
from core.runs.hand_over import is_unconfirmed
from core.runs.store.folder import NAME_LENGTH, name_with
from ui.runs import sweep_actions
from ui.runs.actions import attempt, resume_button
from ui.runs.selection import open_run
from ui.runs.states import title_with_state
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.query_params import query_params
from ui.shared.state import GROUP

REFIT_HELP = (
    "A new run with the settings of these: it trains on every subject and holds out none, for use after the "
    "cross-validation has measured what the settings reach."
)


def header(root: Path, summary: GroupSummary) -> None:
    """Show name, state and actions of a group."""
    group, states = summary.group, {run.state.state for run in summary.runs}
    sweep = summary if isinstance(summary, SweepSummary) else None
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        title_with_state(group.name, summary.state)
        st.caption(progress_text(summary), width="content")
        st.space("stretch")
        if sweep is not None:
            sweep_actions.render(root, sweep)
        else:
            _fold_actions(root, summary, states)
        _rename(root, summary)
        if not states & set(runs.ACTIVE):
            _delete(root, summary)


def progress_text(summary: GroupSummary) -> str:
    """How many runs of a group are done: "2 of 5 folds finished"."""
    if isinstance(summary, SweepSummary):
        return f"{summary.ended} of {formatting.count(summary.total, summary.noun)} ended"
    return f"{summary.finished} of {formatting.count(summary.total, summary.noun)} finished"


def _fold_actions(root: Path, summary: GroupSummary, states: AbstractSet[str]) -> None:
    if states & set(runs.STOPPABLE):
        _stop(root, summary)
    if states & set(runs.RESUMABLE) or any(map(is_unconfirmed, summary.runs)):
        was, key = groups.engine_of_group(summary), f"resume-{summary.group.id}"
        clicked, engine = resume_button(root, was, key, label="Resume all")
        if clicked:
            attempt(partial(groups.resume_group, engine=engine), root, summary.group)
    if summary.missing:
        missing = formatting.count(len(summary.missing), "missing fold")
        if st.button(f"Queue {missing}", icon=":material/add:", help="Folds without a run are queued again."):
            attempt(groups.complete, root, summary.group)
    _refit(root, summary)


def _stop(root: Path, summary: GroupSummary) -> None:
    with st.popover("Stop all", icon=":material/stop:", key=f"stop-{summary.group.id}"):
        st.write("Runs that wait leave the queue; those that train save a checkpoint and end. All can be resumed.")
        if st.button("Stop all runs", type="primary", key=f"stop-now-{summary.group.id}"):
            attempt(groups.stop_group, root, summary.group)


def _refit(root: Path, summary: GroupSummary) -> None:
    if st.button("Train on all subjects", icon=":material/model_training:", type="tertiary", help=REFIT_HELP):
        name = name_with(summary.group.given_name, "refit")
        try:
            engine = groups.engine_of_group(summary)
            run_id = runs.submit(root, groups.refit_config(summary.group), name, engine=engine)
        except UserError as error:
            error_box(error)
        else:
            open_run(run_id)
            st.rerun()


def _rename(root: Path, summary: GroupSummary) -> None:
    group = summary.group
    with st.popover("Rename", icon=":material/edit:", type="tertiary", key=f"rename-{group.id}"):
        name = st.text_input("Name", value=group.name, max_chars=NAME_LENGTH, key=f"name-{group.id}")
        if st.button("Rename", key=f"rename-now-{group.id}"):
            attempt(groups.rename_group, root, group.id, name or "")


def _delete(root: Path, summary: GroupSummary) -> None:
    group, number = summary.group, formatting.count(len(summary.runs), "run")
    verb = "is" if len(summary.runs) == 1 else "are"
    with st.popover("Delete", icon=":material/delete:", type="tertiary", key=f"delete-{group.id}"):
        st.write(f"Its {number} {verb} deleted permanently, with checkpoints, measurements and predictions; or kept.")
        for label, keep_runs in ((f"Delete {number}", False), ("Keep the runs, delete the group", True)):
            if st.button(label, type="secondary" if keep_runs else "primary", key=f"delete-{keep_runs}-{group.id}"):
                query_params.pop(GROUP, None)
                attempt(partial(groups.delete_group, keep_runs=keep_runs), root, group)
