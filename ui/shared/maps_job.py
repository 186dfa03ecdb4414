"""Background jobs that make the maps of a kept prediction: its uncertainty, its probabilities, its logits."""

from __future__ import annotations

import threading
from pathlib import Path

from core.errors import VolumeError
from core.runs.kept_maps import is_kept, read_kept_maps
from core.runs.predictions import Prediction
from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root, runs_root

MAX_AT_ONCE = 2  # jobs; each has a network and a volume in memory

_lock = threading.Lock()
_started: set[Path] = set()  # folders of jobs of this server


def advance(checkpoint: Path, data: Path, prediction: Prediction, logits: bool = False) -> Job:
    """The state of the maps of a prediction, "done" or "running"; they are made unless they are kept.

    Parameters
    ----------
    checkpoint, data : Path. The model that made the prediction, and the folder of its data set.
    prediction : Prediction. The kept prediction.
    logits : bool. Whether its logits are among them, which are made only where they are asked for.

    Raises
    ------
    VolumeError
        If they cannot be made; the next call tries again.
    """
    kept = read_kept_maps(prediction.file, prediction.made_at)
    if kept is not None and (kept.logits or not logits):
        return Job("done")
    if not is_kept(prediction.file, prediction.made_at):
        raise VolumeError(f"{prediction.subject}: this case has been segmented again since; load the page again")
    folder = cache_root() / "maps" / hashes.short_hash(f"{checkpoint}\0{data}\0{prediction.subject}")
    with _lock:
        job = jobs.observe(folder, False)
        if job.state == "failed":
            jobs.discard(folder)
            raise VolumeError(job.message)
        _started.intersection_update([other for other in _started if jobs.is_running(other)])
        if job.state == "none" and len(_started) < MAX_AT_ONCE:
            options = [f"--subject={prediction.subject}", f"--checkpoints={runs_root()}", "--progress"]
            options += ["--logits"] if logits else []
            jobs.start(folder, ["maps", str(checkpoint), str(data), *options])
            _started.add(folder)
    return Job("running", job.done, job.total)
