"""All runs of a group as one model: the average of their probabilities, written as an ensemble."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core import runs
from core.checkpointing.metadata import MEMBERS
from core.errors import UserError
from core.formatting import format_bytes
from core.runs.group_summary import GroupSummary
from core.runs.models import ensemble_key
from ui.runs import model_jobs
from ui.runs.postprocessing_view import show_postprocessing
from ui.shared import cache, formatting
from ui.shared.errors import error_box
from ui.shared.jobs import Job
from ui.shared.navigation import go_to
from ui.shared.progress import progress
from ui.shared.state import MODEL

WHAT = (
    "The probabilities of all networks averaged, in one file. Together the networks have seen every subject of the "
    "folds, so the figures above are those of single networks."
)


def show_one_model(summary: GroupSummary) -> None:
    """Offer the runs of a group as one model, once at least two have a checkpoint and none trains or waits."""
    if any(run.state.state not in runs.ENDED for run in summary.runs):
        return
    found = [runs.run_checkpoint(run.folder) for run in summary.runs]
    checkpoints = [path.absolute() for path in found if path is not None]
    if len(checkpoints) < 2:
        return
    st.subheader("One model", anchor=False)
    file, group_id = model_jobs.combined_file(summary.group.id), summary.group.id

    def observe() -> Job:
        return model_jobs.observe_combining(group_id, _is_current(file, checkpoints))

    current = _is_current(file, checkpoints)
    job = observe()
    if job.state == "running":
        progress("Combining the networks", observe)
        return
    if job.state == "failed":
        error_box(job.message, context="The networks were not combined")
    st.caption(WHAT)
    if not current:
        label = f"Combine {len(checkpoints)} networks"
        label += " again: runs have changed since" if file.is_file() else ""
        if st.button(label, icon=":material/join:", key=f"combine-{group_id}"):
            model_jobs.forget_choice(file)
            model_jobs.start_combining(group_id, checkpoints)
            st.rerun()
        return
    _show(file)


def _show(file: Path) -> None:
    """The combined model: what it is, where to use it, and its postprocessing."""
    try:
        networks = cache.checkpoint_metadata(file).inference.get(MEMBERS, [])
    except UserError as error:
        error_box(error)
        return
    key = ensemble_key(file)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        size = format_bytes(file.stat().st_size)
        st.markdown(f"**{formatting.plain(file.stem)}**, {len(networks)} networks, {size}", width="content")
        for label, icon, name in (
            ("Review", ":material/compare:", "review"),
            ("Predict", ":material/auto_awesome:", "predict"),
            ("Quiz", ":material/quiz:", "quiz"),
        ):
            if st.button(label, icon=icon, key=f"{name}-{key}"):
                go_to(name, **{MODEL: key})
    with st.expander("As a file to share"):
        st.caption("Without the folders of this machine in it:")
        st.code(f"python -m core export {key} --out {file.name}", language="bash", wrap_lines=True)
    with st.expander("Postprocessing", icon=":material/rule:"):
        show_postprocessing(file)


def _is_current(file: Path, checkpoints: list[Path]) -> bool:
    """Whether the model exists, has as many networks, and is newer than each of their checkpoints."""
    try:
        written = file.stat().st_mtime
        if any(path.stat().st_mtime > written for path in checkpoints):
            return False
        return len(cache.checkpoint_metadata(file).inference.get(MEMBERS, [])) == len(checkpoints)
    except (OSError, UserError):
        return False
