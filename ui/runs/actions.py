"""The header of a run: name, state, and buttons for all actions that its state allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from core import runs
from core.datasets.data_record import CHANGED, MAX_CHANGES, ChangedDataError
from core.errors import UserError
from core.hosts import host_name
from core.runs import RunSummary
from core.runs.hand_over import is_unconfirmed
from core.runs.place import run_place
from core.runs.store.engine_records import engine_of
from core.runs.store.folder import NAME_LENGTH, name_with
from ui.runs.states import title_with_state
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.navigation import go_to
from ui.shared.places import choose_place, places, where
from ui.shared.query_params import query_params
from ui.shared.state import MODEL, RUN_PARAMETER


def header(root: Path, run: RunSummary, *, review: bool = True) -> None:
    """Show name, state and actions of a run; ``review``: also the way to its predictions, of a run of this root."""
    state = run.state.state
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        title_with_state(run.name, state)
        if where := _where(run):
            st.caption(formatting.plain(where), width="content")
        st.space("stretch")
        if review and runs.run_checkpoint(run.folder) is not None and st.button("Review", icon=":material/compare:"):
            go_to("review", **{MODEL: run.id})
        if state == "queued":
            _move(root, run)
        if is_unconfirmed(run) and st.button("Submit again", type="primary", icon=":material/refresh:"):
            attempt(runs.resume, root, run.id)
        if state in runs.STOPPABLE:
            _stop(root, run)
        elif state == "stopping":
            _end_now(root, run)
        # After a failure the cause has to be removed before Resume, so Resume is not the primary button.
        kind: Literal["primary", "secondary"] = "secondary" if state == "failed" else "primary"
        if state in runs.RESUMABLE:
            _resume(root, run, kind)
        _duplicate(root, run)
        _rename(root, run)
        if not run.state.active and not (state == "queued" and run.engine is not None):
            _delete(root, run)
    if refused := st.session_state.get(_refused_key(run)):
        changed, changes = refused
        what = "; ".join(formatting.plain(change) for change in changes[:MAX_CHANGES])
        st.warning(
            f"The {changed} of this run has changed since it began: {what}. Restore the earlier files, or resume on "
            f"the changed {changed}.",
            icon=":material/warning:",
        )


def _where(run: RunSummary) -> str:
    """Engine and place of a run on a cluster, and the host of a run that trains on another one; else empty."""
    if run.engine is not None:
        job = f"job {run.engine.job}" if run.engine.job else ""
        place = run_place(run)
        hosts = place.hosts if run.state.active else ""
        return ", ".join(part for part in (f"on {run.engine.engine}", job, hosts, place.history) if part)
    other = run.state.host not in ("", host_name())
    return f"on {run.state.host}" if other and (run.state.active or run.state.state == "queued") else ""


def attempt(action: Callable[..., Any], *arguments: Any) -> None:
    """Perform an action and run the page again; if it fails, show the error in its place."""
    try:
        action(*arguments)
    except UserError as error:
        error_box(error)
    else:
        st.rerun()


def _move(root: Path, run: RunSummary) -> None:
    """Buttons that move a run in the queue, if other runs are queued."""
    queue = runs.queued_runs(root)
    if run.id not in queue or len(queue) < 2:
        return
    first, last = run.id == queue[0], run.id == queue[-1]
    moves: tuple[tuple[runs.QueuePosition, str, str, bool], ...] = (
        ("first", ":material/vertical_align_top:", "Start before all other queued runs", first),
        ("earlier", ":material/arrow_upward:", "One position earlier", first),
        ("later", ":material/arrow_downward:", "One position later", last),
    )
    for position, icon, help, disabled in moves:
        key = f"move-{position}-{run.id}"
        if st.button("", icon=icon, help=help, type="tertiary", disabled=disabled, key=key):
            attempt(runs.move_in_queue, root, run.id, position)


def _resume(root: Path, run: RunSummary, kind: Literal["primary", "secondary"]) -> None:
    """A button that resumes a run; where its data has changed since it began, a second one that goes on with it."""
    refused = _refused_key(run)
    clicked, engine = resume_button(root, engine_of(run.engine), f"resume-{run.id}", type=kind)
    if clicked:
        try:
            runs.resume(root, run.id, engine=engine)
        except ChangedDataError as error:
            st.session_state[refused] = error.what, error.changes
        except UserError as error:
            error_box(error)
        else:
            st.session_state.pop(refused, None)
            st.rerun()
    if refused in st.session_state or run.state.message.startswith(CHANGED):
        with st.popover("Resume all the same", icon=":material/warning:", key=f"resume-anyway-{run.id}"):
            st.write("The run goes on with the files as they are now; its log and record keep what has changed.")
            if st.button("Resume on these files", type="primary", key=f"resume-anyway-now-{run.id}"):
                st.session_state.pop(refused, None)
                attempt(partial(runs.resume, force=True, engine=engine), root, run.id)


def resume_button(root: Path, was: str, key: str, *, label: str = "Resume", **options: Any) -> tuple[bool, str]:
    """A button that resumes, which also asks where to train if there is a choice.

    Parameters
    ----------
    root : Path. Checkpoints root.
    was : str. Name of the engine on which the runs were.
    key : str. Session key.
    label : str. Its text.
    **options
        Further options of the button.

    Returns
    -------
    bool
        Whether it was clicked.
    str
        Name of the chosen engine; empty for where the runs were.
    """
    titles, icon = places(root, was), ":material/resume:"
    if not titles:
        return st.button(label, icon=icon, **options), ""
    with st.popover(label, icon=icon, key=key, **options):
        st.write("From the last checkpoint; from the beginning where there is none.")
        engine = choose_place(titles, was, f"{key}-where")
        clicked = st.button(label, type="primary", key=f"{key}-now")
    return clicked, "" if engine == was else engine


def _refused_key(run: RunSummary) -> str:
    """Session key of the changes of a run's data with which resuming it was refused."""
    return f"resume-refused-{run.id}"


def _stop(root: Path, run: RunSummary) -> None:
    with st.popover("Stop", icon=":material/stop:", key=f"stop-{run.id}"):
        waits = run.state.state == "queued"
        st.write(f"The run {'leaves the queue' if waits else 'saves a checkpoint and ends'}; it can be resumed.")
        if st.button("Stop this run", type="primary", key=f"stop-now-{run.id}"):
            attempt(runs.request_stop, root, run.id)


def _end_now(root: Path, run: RunSummary) -> None:
    with st.popover("End now", icon=":material/stop:", key=f"end-{run.id}"):
        st.write("The run ends without saving a checkpoint; progress that no checkpoint holds is lost.")
        if st.button("End this run now", type="primary", key=f"end-now-{run.id}"):
            attempt(runs.request_stop, root, run.id, True)


def _duplicate(root: Path, run: RunSummary) -> None:
    with st.popover("Duplicate", icon=":material/content_copy:", type="tertiary", key=f"duplicate-{run.id}"):
        st.write("A new run with the same settings, from the beginning.")
        name = st.text_input("Name", value=name_with(run.name, "again"), max_chars=NAME_LENGTH, key=f"copy-{run.id}")
        engine = where(root, engine_of(run.engine), f"copy-where-{run.id}")
        if st.button("Start", type="primary", key=f"duplicate-now-{run.id}"):
            try:
                query_params[RUN_PARAMETER] = runs.duplicate(root, run.id, name or "", engine=engine)
            except UserError as error:
                error_box(error)
            else:
                st.rerun()


def _rename(root: Path, run: RunSummary) -> None:
    with st.popover("Rename", icon=":material/edit:", type="tertiary", key=f"rename-{run.id}"):
        name = st.text_input("Name", value=run.name, max_chars=NAME_LENGTH, key=f"name-{run.id}")
        if st.button("Rename", key=f"rename-now-{run.id}"):
            attempt(runs.rename, root, run.id, name or "")


def _delete(root: Path, run: RunSummary) -> None:
    with st.popover("Delete", icon=":material/delete:", type="tertiary", key=f"delete-{run.id}"):
        st.write("Its checkpoints, measurements and predictions are deleted permanently.")
        if st.button("Delete this run", type="primary", key=f"delete-now-{run.id}"):
            query_params.pop(RUN_PARAMETER, None)
            attempt(runs.delete, root, run.id)
