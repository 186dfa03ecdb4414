"""Background jobs of the Runs page that change models: several runs written as one, and postprocessing chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.runs.models import ENSEMBLES, SUFFIX
from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root, runs_root


def combined_file(group_id: str) -> Path:
    """The ensemble of all runs of a group; it need not exist."""
    return (runs_root() / ENSEMBLES / f"{group_id}{SUFFIX}").absolute()


def start_combining(group_id: str, checkpoints: Sequence[Path]) -> None:
    """Start to write the networks of a group as one model, which replaces an earlier one."""
    path = combined_file(group_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    jobs.start(_combining(group_id), ["ensemble", *map(str, checkpoints), "--out", str(path), "--json"])


def observe_combining(group_id: str, complete: bool) -> Job:
    """The state of that job.

    Parameters
    ----------
    complete : bool. Whether the model exists and has the runs as they are now.
    """
    return jobs.observe(_combining(group_id), complete)


def start_choosing(checkpoint: Path, decide_by: str = "") -> None:
    """Start to choose the postprocessing of a model by held-out subjects.

    Parameters
    ----------
    checkpoint : Path. Its file, in which the rules are stored.
    decide_by : str. Models whose held-out subjects decide, as :func:`core.runs.models.find_models` reads them; empty
        for those of the model.
    """
    by = ["--decide-by", decide_by] if decide_by else []
    options = [*by, "--json", "--progress", f"--checkpoints={runs_root()}"]
    jobs.start(_choosing(checkpoint), ["postprocess", str(checkpoint.absolute()), "--auto", *options])


def observe_choosing(checkpoint: Path) -> Job:
    """The state of that job; "none" where none was started since the model was written."""
    return jobs.observe(_choosing(checkpoint), chosen(checkpoint) is not None)


def chosen(checkpoint: Path) -> dict[str, Any] | None:
    """What the last finished job has decided, as ``postprocess --json`` reports it; ``None`` without one, and where the
    model was written again since."""
    folder = _choosing(checkpoint)
    if jobs.is_running(folder):
        return None
    try:
        if (folder / jobs.STDOUT).stat().st_mtime < checkpoint.stat().st_mtime:
            return None
        return jobs.standard_output(folder)
    except (OSError, ValueError):  # none was started, or it failed before it wrote
        return None


def forget_choice(checkpoint: Path) -> None:
    """Forget what was decided for an earlier content of the file."""
    jobs.discard(_choosing(checkpoint))


def _combining(group_id: str) -> Path:
    return cache_root() / "combine" / hashes.short_hash(group_id)


def _choosing(checkpoint: Path) -> Path:
    return cache_root() / "postprocess" / hashes.short_hash(str(checkpoint))
