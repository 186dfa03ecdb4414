"""Several cases on the Predict page: progress, volumes of all, one of them in the viewer, all of them as a ZIP file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from core.errors import UserError
from ui.predict import batches, result_view, segmentations
from ui.predict.segmentations import Request
from ui.shared import formatting
from ui.shared.jobs import Job
from ui.shared.query_params import query_params
from ui.shared.state import RESULT

CASE = "predict_case"  # session key
STATES = {"running": "waiting", "done": "done", "failed": "failed", "none": "interrupted"}


def render_batch(id: str, cases: Mapping[str, str], earlier: bool) -> None:
    """Render the results of a batch.

    Parameters
    ----------
    cases : mapping. Id of the segmentation by the name of the case.
    earlier : bool. Whether other images or another model are chosen now.
    """
    if earlier:
        result_view.mark_as_earlier()
    requests = {name: request for name, case in cases.items() if (request := segmentations.read(case)) is not None}
    states = {name: segmentations.observe(cases[name]) for name in requests}
    if any(job.state == "running" for job in states.values()):
        _progress({name: cases[name] for name in requests})
    done = sum(job.state == "done" for job in states.values())
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = _choose_case(id, states)
        st.space("stretch")
        st.download_button(
            f"Save all {done}" if done else "Save all",
            partial(batches.archive, id),
            "segmentations.zip",
            "application/zip",
            icon=":material/folder_zip:",
            on_click="ignore",
            disabled=not done,
            help="The finished label maps as one ZIP file.",
        )
        running = any(job.state == "running" for job in states.values())
        st.button(
            "Cancel all" if running else "Remove all",
            type="tertiary",
            icon=":material/stop_circle:" if running else ":material/delete:",
            on_click=_close,
            args=(id,),
        )
    if chosen is None:
        st.warning("These segmentations are no longer kept; make them again.", icon=":material/search_off:")
        return
    if states[chosen].state == "done":
        result_view.finished(cases[chosen], requests[chosen], removable=False)
    elif states[chosen].state == "running":
        result_view.heading(requests[chosen])
        st.skeleton(420)
    else:
        result_view.heading(requests[chosen])
        result_view.unfinished(cases[chosen], requests[chosen], states[chosen])
    _volumes(cases, requests, states)


def _choose_case(id: str, states: Mapping[str, Job]) -> str | None:
    """The select box for the case in the viewer; at first the first one that is done."""
    if not states:
        return None
    key = f"{CASE}-{id}"
    if st.session_state.get(key) not in states:
        st.session_state[key] = next((name for name, job in states.items() if job.state == "done"), next(iter(states)))
    return st.selectbox(
        "Case",
        list(states),
        key=key,
        format_func=lambda name: f"{name} · {_state(states[name])}",
        width=240,
    )


def _state(job: Job) -> str:
    return "in work" if job.state == "running" and not job.message else STATES[job.state]


def _progress(cases: Mapping[str, str]) -> None:
    """A bar that updates itself; the page runs again whenever a case has ended."""
    ended_before = sum(segmentations.observe(case).state != "running" for case in cases.values())

    @st.fragment(run_every=1.0)
    def bar() -> None:
        jobs = {name: segmentations.observe(case) for name, case in cases.items()}
        ended = sum(job.state != "running" for job in jobs.values())
        if ended != ended_before:
            st.rerun()
        now = next((name for name, job in jobs.items() if job.state == "running" and not job.message), "")
        share = jobs[now].done / jobs[now].total if now and jobs[now].total else 0.0
        text = f"{ended} of {len(jobs)} segmented" + (f", now {formatting.plain(now)}" if now else "")
        st.progress(min(1.0, (ended + share) / len(jobs)), text)

    bar()


def _volumes(cases: Mapping[str, str], requests: Mapping[str, Request], states: Mapping[str, Job]) -> None:
    """A table with the volumes of all cases."""
    rows: list[dict[str, Any]] = []
    for name, job in states.items():
        row: dict[str, Any] = {"case": name, "state": _state(job)}
        if job.state == "done":
            try:
                row |= {f"{c} (ml)": v for c, v in segmentations.report(cases[name])["volume_ml"].items()}
            except (UserError, OSError, ValueError, KeyError):
                row["state"] = "damaged"
        rows.append(row)
    columns = {
        f"{c.name} (ml)": st.column_config.NumberColumn(format="%.1f")
        for request in requests.values()
        for c in request.label_space.foreground
    }
    st.dataframe(rows, hide_index=True, column_config=columns, placeholder="–", alt="Volumes of all cases")


def _close(id: str) -> None:
    """Remove the batch with all its segmentations (callback of a button)."""
    batches.remove(id)
    query_params.pop(RESULT, None)
