"""Background jobs that make the maps of a kept prediction: uncertainty, probabilities, logits, feature maps."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from core.errors import VolumeError
from core.inference.stage_maps import StageRequest
from core.runs.kept_maps import is_kept, read_kept_maps
from core.runs.kept_stage_maps import KeptStage, read_kept_stage, suffices
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
    _check_kept(prediction)
    folder = cache_root() / "maps" / hashes.short_hash(f"{checkpoint}\0{data}\0{prediction.subject}")
    with _lock:
        job = jobs.observe(folder, False)
        if job.state == "failed":
            jobs.discard(folder)
            raise VolumeError(job.message)
        if job.state == "none" and _has_room():
            _start(folder, checkpoint, data, prediction, ["--logits"] if logits else [])
    return Job("running", job.done, job.total)


@dataclass(frozen=True)
class StageJob:
    """The job that makes feature maps of a stage for a kept prediction; it begins when it is started.

    Attributes
    ----------
    checkpoint, data : Path. The model that made the prediction, and the folder of its data set.
    prediction : Prediction. The kept prediction.
    stage : str. Name of the stage.
    """

    checkpoint: Path
    data: Path
    prediction: Prediction
    stage: str

    @property
    def kept(self) -> KeptStage | None:
        """The feature maps that are there."""
        return read_kept_stage(self.prediction.file, self.prediction.made_at, self.stage)

    def start(self, request: StageRequest) -> None:
        """Start it; no effect while it runs.

        Raises
        ------
        VolumeError
            If as many jobs run as may, or the prediction has been replaced.
        """
        _check_kept(self.prediction)
        options = [f"--stage={self.stage}", *(f"--channel={channel}" for channel in request.channels)]
        with _lock:
            if jobs.is_running(self._folder):
                return
            if not _has_room():
                raise VolumeError(f"{MAX_AT_ONCE} maps are being computed already; try again when one of them is done")
            _start(self._folder, self.checkpoint, self.data, self.prediction, options)

    def observe(self, request: StageRequest) -> Job:
        """Its state: "done" where there is what is asked for."""
        return jobs.observe(self._folder, suffices(self.kept, request))

    def stop(self) -> None:
        """End it, if it runs; nothing is kept."""
        jobs.cancel(self._folder)

    @property
    def _folder(self) -> Path:
        names = (self.checkpoint, self.data, self.prediction.subject, self.stage)
        return cache_root() / "maps" / hashes.short_hash("\0".join(map(str, names)))


def _check_kept(prediction: Prediction) -> None:
    if not is_kept(prediction.file, prediction.made_at):
        raise VolumeError(f"{prediction.subject}: this case has been segmented again since; load the page again")


def _has_room() -> bool:
    """Whether another job may start; the lock is held."""
    _started.intersection_update([other for other in _started if jobs.is_running(other)])
    return len(_started) < MAX_AT_ONCE


def _start(folder: Path, checkpoint: Path, data: Path, prediction: Prediction, options: list[str]) -> None:
    """Start a job; the lock is held."""
    shared = [f"--subject={prediction.subject}", f"--checkpoints={runs_root()}", "--progress"]
    jobs.start(folder, ["maps", str(checkpoint), str(data), *shared, *options])
    _started.add(folder)
