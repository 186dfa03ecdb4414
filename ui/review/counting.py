"""Background jobs that count the voxels of segmented cases for figures of the Review page (``review analyse``, ``review
calibration``), and what is rendered until they are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from core.runs.kept_analyses import read_analyses
from core.runs.kept_calibration import read_calibration
from core.runs.kept_counts import KeptCounts
from core.runs.predictions import Prediction
from ui.review.view import CaseList
from ui.shared import formatting, hashes, jobs
from ui.shared.errors import error_box
from ui.shared.jobs import Job
from ui.shared.paths import cache_root, runs_root
from ui.shared.progress import progress


@dataclass(frozen=True)
class Counting:
    """What is counted.

    Attributes
    ----------
    command : str. Sub-command of ``review`` that counts and keeps.
    read : callable. The kept counts of predictions.
    doing : str. What the job does, on its bar.
    button : str. Label of the button that starts it, in front of the number of cases.
    purpose : str. What it is for, beside the button.
    """

    command: str
    read: Callable[[Mapping[str, Prediction]], KeptCounts[Any]]
    doing: str
    button: str
    purpose: str

    def start(self, checkpoint: Path, data: Path) -> None:
        """Count the kept predictions that are not counted yet; no effect while that is going on."""
        arguments = ["review", self.command, str(checkpoint), str(data), "--json", "--progress"]
        jobs.start(self._folder(checkpoint, data), [*arguments, f"--checkpoints={runs_root()}"])

    def observe(self, checkpoint: Path, data: Path, predictions: Mapping[str, Prediction]) -> Job:
        """The state of the job: done if no prediction is left to count."""
        return jobs.observe(self._folder(checkpoint, data), not self.read(predictions).missing)

    def _folder(self, checkpoint: Path, data: Path) -> Path:
        return cache_root() / self.command / hashes.short_hash(f"{checkpoint}\0{data}")


VOXELS = Counting(
    "analyse",
    read_analyses,
    "Counting voxels",
    "Count the voxels of",
    "for confusion, surface distances and errors near borders",
)
PROBABILITIES = Counting(
    "calibration",
    read_calibration,
    "Computing probabilities",
    "Compute the probabilities of",
    "for the calibration; a case without kept probabilities is segmented again",
)


def ready(counting: Counting, cases: CaseList, found: KeptCounts[Any]) -> bool:
    """Whether any case is counted; renders how the others are counted, and what went wrong.

    Parameters
    ----------
    counting : Counting. What is counted.
    cases : CaseList. The cases of the list.
    found : KeptCounts. The counts of these.
    """

    def observe() -> Job:
        return counting.observe(cases.checkpoint, cases.folder, cases.predictions)

    job = observe()
    if job.state == "running":
        progress(counting.doing, observe)
        return False
    if job.state == "failed":
        error_box(job.message, context=f"{counting.doing} failed")
    for id, reason in found.failures.items():
        error_box(reason, context=f"{formatting.plain(id)} is left out")
    wanted = [*found.missing, *found.failures]
    if wanted:
        with st.container(horizontal=True, vertical_alignment="center"):
            label = f"{counting.button} {formatting.count(len(wanted), 'case')}"
            if st.button(
                label,
                icon=":material/play_arrow:",
                type="primary" if found.missing else "secondary",
                key=f"review-count-{counting.command}",
            ):
                counting.start(cases.checkpoint, cases.folder)
                st.rerun()
            st.caption(counting.purpose, width="content")
    return bool(found.cases)


def partial(found: KeptCounts[Any]) -> str:
    """Of how many of the scored cases the counts are, as a sentence; empty where they are of all."""
    total = len(found.cases) + len(found.failures) + len(found.missing)
    return f" Of {len(found.cases)} of {total} cases." if len(found.cases) < total else ""
