"""Segments the held-out subjects of a group that have no score yet, the runs one after another."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core import runs
from core.runs.group_scores import CrossValidation
from core.runs.groups import GroupSummary
from ui.shared import cache, evaluation_job, formatting, jobs
from ui.shared.errors import error_box, stop_on_user_error
from ui.shared.progress import progress

_REQUESTED = "scores_of_group_requested"  # session key: id of the group that all scores are asked for
_READ_AGAIN = "scores_of_group_read_again"  # session key: subjects for which the page was run again


def offer_scoring(root: Path, summary: GroupSummary, scores: CrossValidation) -> None:
    """A button that segments the subjects without a score by the runs that held them out, and its progress.

    Runs that train are left out: their checkpoint changes.
    """
    by_run: dict[str, list[str]] = {}
    ended = {run.id: run for run in summary.runs if run.state.state in runs.ENDED}
    for subject in scores.missing:
        if subject.run in ended:
            by_run.setdefault(subject.run, []).append(subject.id)
    failed = False
    finished: list[str] = []  # since the scores were read
    work: list[tuple[Path, Path, list[str]]] = []
    for run_id, subjects in by_run.items():
        checkpoint = runs.run_checkpoint(ended[run_id].folder)
        if checkpoint is None:
            continue  # deleted since the list was read
        with stop_on_user_error():
            data = Path(cache.checkpoint_metadata(checkpoint).dataset["path"])
        if pending := evaluation_job.pending(checkpoint, data):
            _show_progress(ended[run_id].name, checkpoint, data, pending)
            return
        left = evaluation_job.without_prediction(checkpoint, data, subjects)
        finished += [subject for subject in subjects if subject not in left]
        if not left:
            continue
        job = evaluation_job.observe(checkpoint, data, left)
        if job.state == "failed":
            failed = True
            error_box(job.message, context=f"Segmenting by {formatting.plain(ended[run_id].name)} failed")
        work.append((checkpoint, data, left))
    _read_again_once(finished)
    if not work:
        return
    number = formatting.count(sum(len(subjects) for *_, subjects in work), "subject")
    requested = st.session_state.get(_REQUESTED) == summary.group.id and not failed
    if requested or st.button(f"Score {number}", icon=":material/play_arrow:", help="Segments them in the background."):
        st.session_state[_REQUESTED] = summary.group.id
        evaluation_job.start(*work[0])
        st.rerun()


def _read_again_once(finished: list[str]) -> None:
    """Run the page again, whose scores were read before these subjects were finished."""
    if finished and st.session_state.get(_READ_AGAIN) != finished:
        st.session_state[_READ_AGAIN] = finished
        st.rerun()


def _show_progress(name: str, checkpoint: Path, data: Path, pending: list[str]) -> None:
    """The progress of a run's subjects; the page runs again as each is finished."""

    def observe() -> jobs.Job:
        if evaluation_job.pending(checkpoint, data) != pending:
            return jobs.Job("done")
        return evaluation_job.observe(checkpoint, data, pending)

    progress(f"{formatting.plain(name)} segments", observe)
