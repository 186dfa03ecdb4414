"""Whether the data of a training is ready for training, before it starts: errors, the choice to go on, and warnings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from core.config import TrainConfig
from core.datasets import DataOptions
from core.datasets.findings import Finding
from core.datasets.fitness import judge_split
from core.datasets.splits import split_subjects
from core.errors import UserError
from ui.shared import cache, formatting, hashes
from ui.shared.cache import DatasetSummary

MAX_SHOWN = 3  # errors with their text


def render(
    choice: str,
    config: TrainConfig,
    summary: DatasetSummary,
    report: Mapping[str, Any] | None,
    force: Callable[[], None],
) -> bool:
    """Show what prevents training; returns whether it can start.

    Parameters
    ----------
    choice : str. The data set.
    report : mapping or None. Report of the data doctor; without it only names and headers are judged.
    force : callable. Called by the button that chooses to train anyway.
    """
    findings = _findings(choice, config, summary, report)
    errors = [f for f in findings if f.severity == "error"]
    for warning in (f for f in findings if f.severity == "warning"):
        st.warning(_text(warning), icon=":material/warning:")
    if not errors:
        return True
    lines = [_text(error) for error in errors[:MAX_SHOWN]]
    if len(errors) > MAX_SHOWN:
        lines.append(f"And {len(errors) - MAX_SHOWN} more, on the Data page.")
    text = "  \n".join([f"**Not ready for training: {formatting.count(len(errors), 'error')}.**", *lines])
    if config.data.force:
        st.warning(f"{text}  \nIt starts anyway, as you chose.", icon=":material/warning:")
        return True
    st.error(text, icon=":material/error:")
    st.button(
        "Train anyway",
        icon=":material/warning:",
        on_click=force,
        help="On the command line: `--force`. Files that cannot be read stay refused.",
    )
    return False


def _text(finding: Finding) -> str:
    """A finding as a sentence; ids of subjects keep their case."""
    return formatting.plain(finding.line if finding.subject else formatting.sentence(finding.line))


def _findings(
    choice: str, config: TrainConfig, summary: DatasetSummary, report: Mapping[str, Any] | None
) -> list[Finding]:
    """Errors of the files that training reads, and warnings about the split."""
    modalities, held_out = config.data.modalities, config.split.test_subjects
    if report is None:
        st.caption("The voxels are not checked yet: the Data page does it, and training before its first step.")
        return cache.file_errors(choice, DataOptions.of_own_data(config.data), modalities, held_out)
    errors = [Finding(**f) for f in report["findings"] if f["severity"] == "error" and f["subject"] not in held_out]
    if modalities and set(modalities) < set(summary.modalities):
        # The report is on all modalities: what concerns others too is judged again by names and headers of these.
        state = hashes.short_hash(repr(errors))
        found = cache.file_errors(choice, DataOptions.of_own_data(config.data), modalities, held_out, state)
        known = {(f.subject, f.message) for f in found}
        of_these = (f for f in errors if set(f.modalities) <= set(modalities))
        errors = found + [f for f in of_these if (f.subject, f.message) not in known]
    try:
        split = split_subjects(summary.labelled, config.split)
    except UserError:
        return errors  # the forecast shows it
    shares = {s["id"]: s["label_shares"] for s in report["subjects"] if s["label_shares"]}
    classes = config.data.classes or summary.classes
    return errors + [f for f in judge_split(classes, shares, split) if f.severity == "warning"]
