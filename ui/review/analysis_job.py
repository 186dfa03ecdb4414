"""Background job that counts the voxels of segmented cases (``review analyse``), for the figures of the Review page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from core.runs.kept_analyses import read_analyses
from core.runs.predictions import Prediction
from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root, runs_root


def start(checkpoint: Path, data: Path) -> None:
    """Analyse the kept predictions that are not analysed yet; no effect while that is going on."""
    arguments = ["review", "analyse", str(checkpoint), str(data), "--json", "--progress"]
    jobs.start(_folder(checkpoint, data), [*arguments, f"--checkpoints={runs_root()}"])


def observe(checkpoint: Path, data: Path, predictions: Mapping[str, Prediction]) -> Job:
    """The state of the job: done if no prediction is left to analyse."""
    return jobs.observe(_folder(checkpoint, data), not read_analyses(predictions).missing)


def _folder(checkpoint: Path, data: Path) -> Path:
    return cache_root() / "analyse" / hashes.short_hash(f"{checkpoint}\0{data}")
