"""Background job that segments and scores subjects of a data set with a checkpoint, for Review and Quiz."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root


def start(checkpoint: Path, data: Path, subjects: Sequence[str]) -> None:
    """Start to segment and score subjects, unless a job of the same checkpoint and data set is running.

    The results are kept by :mod:`core.runs.predictions`.
    """
    options = [f"--subject={subject}" for subject in subjects]
    jobs.start(_folder(checkpoint, data), ["evaluate", str(checkpoint), str(data), *options, "--keep", "--progress"])


def observe(checkpoint: Path, data: Path, complete: bool) -> Job:
    """The state of the job.

    Parameters
    ----------
    checkpoint, data : Path. Checkpoint file and folder of the data set.
    complete : bool. Whether all requested results exist.
    """
    return jobs.observe(_folder(checkpoint, data), complete)


def _folder(checkpoint: Path, data: Path) -> Path:
    return cache_root() / "segment" / hashes.short_hash(f"{checkpoint}\0{data}")
