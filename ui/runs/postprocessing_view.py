"""The postprocessing of a model on the Runs page: what is stored with it, and its choice by held-out subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core.checkpointing.metadata import POSTPROCESSING, CheckpointMetadata
from core.formatting import MISSING, format_score
from core.imaging.postprocessing import Postprocessing
from ui.runs import model_jobs
from ui.shared import cache, formatting
from ui.shared.class_table import ClassRow, class_table
from ui.shared.errors import error_box, stop_on_user_error
from ui.shared.progress import progress

FEW_SUBJECTS = 3
WHAT = (
    "What is done with a predicted label map, per class: remove small components, keep the largest alone, fill holes. "
    "Each class is decided by the Dice of held-out subjects, and changed only where that gains. It is stored with the "
    "model, and applied by Review, Predict and Quiz."
)
NOTHING_HELD_OUT = (
    "This network was trained on every subject. The cross-validation with the same settings decides: choose its group."
)


def show_postprocessing(checkpoint: Path, groups: Mapping[str, str] | None = None) -> None:
    """Show the rules of a model, and a button that chooses them.

    Parameters
    ----------
    checkpoint : Path. File of the model; its run has ended.
    groups : mapping, optional. Name by id of groups of folds that can decide for a network without held-out subjects;
        ``None`` for a model that has some.
    """
    st.caption(WHAT)
    with stop_on_user_error():
        metadata = cache.checkpoint_metadata(checkpoint)
    job = model_jobs.observe_choosing(checkpoint)
    if job.state == "running":
        progress("Segmenting the held-out subjects", lambda: model_jobs.observe_choosing(checkpoint))
        return
    if job.state == "failed":
        error_box(job.message, context="Nothing was chosen")
    _rules(metadata, model_jobs.chosen(checkpoint))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        decide_by = _choose_group(groups) if groups is not None else ""
        possible = groups is None or bool(decide_by)
        again = "again" if metadata.postprocessing else "by held-out subjects"
        if st.button(f"Choose {again}", icon=":material/rule:", key=f"choose-{checkpoint}", disabled=not possible):
            model_jobs.start_choosing(checkpoint, decide_by)
            st.rerun()


def _choose_group(groups: Mapping[str, str]) -> str:
    """The group that decides; empty without one."""
    if not groups:
        st.caption(f"{NOTHING_HELD_OUT} There is none of this data yet.")
        return ""
    return str(
        st.selectbox(
            "Decide by", list(groups), format_func=lambda id: formatting.plain(groups[id]), help=NOTHING_HELD_OUT
        )
    )


def _rules(metadata: CheckpointMetadata, report: Mapping[str, Any] | None) -> None:
    """The rule of each class, and the Dice without and with it where held-out subjects decided."""
    rules = metadata.postprocessing
    stored = metadata.inference.get(POSTPROCESSING, {}).get("decision") or {}
    if report is not None and Postprocessing.from_json(report["postprocessing"]) == rules:
        stored = report  # it also has the decision for nothing
    if not stored and not rules:
        st.caption("None is stored; nothing was chosen yet.")
        return
    dice, subjects = stored.get("dice", {}), stored.get("subjects")
    rows = [
        ClassRow(c.name, _cells(rules, c.name, dice.get(c.name)), c.colour) for c in metadata.label_space.foreground
    ]
    class_table(("Rule", "Dice without", "Dice with"), rows)
    if subjects:
        few = "; these are few" if subjects < FEW_SUBJECTS else ""
        st.caption(f"Decided by {formatting.count(subjects, 'held-out subject')}, on whole volumes{few}.")


def _cells(rules: Postprocessing, name: str, dice: Mapping[str, float] | None) -> Sequence[str]:
    rule = rules.rules.get(name)
    before, after = (MISSING, MISSING) if dice is None else map(format_score, (dice["before"], dice["after"]))
    return (rule.text if rule else "unchanged", before, after)
