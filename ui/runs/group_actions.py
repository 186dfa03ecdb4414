"""The header of a group of runs: name, state, and buttons for what can be done with all of its runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import streamlit as st

from core import runs
from core.errors import UserError
from core.runs import groups
from core.runs.groups import GroupSummary
from ui.runs.actions import attempt
from ui.runs.states import STATE_COLOURS, STATE_ICONS
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.state import GROUP, RUN_PARAMETER

REFIT_HELP = (
    "A new run with the settings of these: it trains on every subject and holds out none, for use after the "
    "cross-validation has measured what the settings reach."
)


def header(root: Path, summary: GroupSummary) -> None:
    """Show name, state and actions of a group."""
    group, states = summary.group, {run.state.state for run in summary.runs}
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.header(formatting.plain(group.name), anchor=False, width="content")
        st.badge(summary.state, color=STATE_COLOURS[summary.state], icon=STATE_ICONS[summary.state])
        st.caption(f"{summary.finished} of {formatting.count(len(group.members), 'fold')} finished", width="content")
        st.space("stretch")
        if states & {"queued", "starting", "running"}:
            _stop(root, summary)
        if states & set(runs.RESUMABLE) and st.button("Resume all", icon=":material/resume:"):
            attempt(groups.resume_group, root, group)
        if summary.missing:
            missing = formatting.count(len(summary.missing), "missing fold")
            if st.button(f"Queue {missing}", icon=":material/add:", help="Folds without a run are queued again."):
                attempt(groups.complete, root, group)
        _refit(root, summary)
        _rename(root, summary)
        if not states & set(runs.ACTIVE):
            _delete(root, summary)


def _stop(root: Path, summary: GroupSummary) -> None:
    with st.popover("Stop all", icon=":material/stop:", key=f"stop-{summary.group.id}"):
        st.write("Runs that wait leave the queue; those that train save a checkpoint and end. All can be resumed.")
        if st.button("Stop all runs", type="primary", key=f"stop-now-{summary.group.id}"):
            attempt(groups.stop_group, root, summary.group)


def _refit(root: Path, summary: GroupSummary) -> None:
    if st.button("Train on all subjects", icon=":material/model_training:", type="tertiary", help=REFIT_HELP):
        name = f"{summary.group.name[:70]} refit" if summary.group.name != summary.group.id else ""
        try:
            run_id = runs.get_backend(root).submit(groups.refit_config(summary.group), name)
        except UserError as error:
            error_box(error)
        else:
            st.query_params.pop(GROUP, None)
            st.query_params[RUN_PARAMETER] = run_id
            st.rerun()


def _rename(root: Path, summary: GroupSummary) -> None:
    group = summary.group
    with st.popover("Rename", icon=":material/edit:", type="tertiary", key=f"rename-{group.id}"):
        name = st.text_input("Name", value=group.name, max_chars=80, key=f"name-{group.id}")
        if st.button("Rename", key=f"rename-now-{group.id}"):
            attempt(groups.rename_group, root, group.id, name or "")


def _delete(root: Path, summary: GroupSummary) -> None:
    group, number = summary.group, formatting.count(len(summary.runs), "run")
    with st.popover("Delete", icon=":material/delete:", type="tertiary", key=f"delete-{group.id}"):
        st.write(f"Its {number} are deleted permanently, with checkpoints, measurements and predictions; or kept.")
        for label, keep_runs in ((f"Delete {number}", False), ("Keep the runs, delete the group", True)):
            if st.button(label, type="secondary" if keep_runs else "primary", key=f"delete-{keep_runs}-{group.id}"):
                st.query_params.pop(GROUP, None)
                attempt(partial(groups.delete_group, keep_runs=keep_runs), root, group)
