"""Surfaces of a case for the viewer: made in a child process (``review surfaces``) when they are first shown."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import Dataset
from core.errors import VolumeError
from core.evaluation.surface_file import VERSION, SurfaceFileError, read_header
from core.runs.predictions import Prediction
from ui.shared import hashes, jobs
from ui.shared.paths import cache_root, runs_root
from ui.viewer import volumes
from ui.viewer.component import SurfaceUrls
from ui.viewer.scenes import subject_hash
from ui.viewer.volumes import Pending

MAX_AT_ONCE = 2  # jobs; each has a case and its surfaces in memory

_lock = threading.Lock()
_started: set[Path] = set()  # folders of jobs of this server
_stops = 0  # so far, of any case: a request that came before the last one begins nothing


def surface_urls(
    checkpoint: Path, dataset: Dataset, metadata: CheckpointMetadata, prediction: Prediction | None
) -> SurfaceUrls | None:
    """URLs of the surfaces of a case.

    Parameters
    ----------
    checkpoint : Path. The model.
    dataset : Dataset. The data set of the case.
    metadata : CheckpointMetadata. Metadata of the model.
    prediction : Prediction or None. The kept prediction of the case.

    Returns
    -------
    SurfaceUrls or None. ``None`` without a prediction.
    """
    if prediction is None:
        return None
    regions = [[r.name, r.classes] for r in metadata.regions.regions] if metadata.regions is not None else []
    labels = [metadata.label_space.to_json(), regions]
    case = CaseOfSurfaces(checkpoint, dataset, prediction, stamp_of(dataset, prediction), json.dumps(labels))
    urls = [
        volumes.publish_on_request(f"{part}\n{case.name}", make, stop=case.stop)
        for part, make in (("surfaces", case.scene), ("surface picture", case.picture))
    ]
    return SurfaceUrls(*urls)


@dataclass(frozen=True)
class CaseOfSurfaces:
    """A case whose surfaces are made.

    Attributes
    ----------
    checkpoint : Path. The model.
    dataset : Dataset. The data set of the case.
    prediction : Prediction. Its kept prediction.
    stamp : str. Changes with the files of reference and prediction, and with the classes of the data set.
    labels : str. Changes with the classes and regions of the model.
    """

    checkpoint: Path
    dataset: Dataset
    prediction: Prediction
    stamp: str
    labels: str

    @property
    def name(self) -> str:
        """Text that changes with all that the surfaces depend on."""
        return "\n".join([f"version {VERSION}", str(self.checkpoint), self.stamp, self.labels])

    def scene(self) -> bytes:
        """The surfaces; errors as for :meth:`_content`."""
        content, end = self._content()
        return content[:end]

    def picture(self) -> bytes:
        """Their picture, PNG; errors as for :meth:`_content`."""
        content, end = self._content()
        return content[end:]

    def stop(self) -> None:
        """End the process that makes them, if there is one; a request that came before it does not begin anew."""
        global _stops
        with _lock:
            _stops += 1
        jobs.cancel(self._folder)

    def _content(self) -> tuple[bytes, int]:
        """The file of the surfaces, and where its picture begins.

        Raises
        ------
        VolumeError
            If they cannot be made, or reference or prediction were replaced since the page was loaded; the next call
            tries again.
        Pending
            While they are made.
        """
        subject, stops = self.prediction.subject, _stops
        if stamp_of(self.dataset, self.prediction) != self.stamp:
            raise VolumeError(f"{subject}: its segmentation or its files have changed since; load the page again")
        with _lock:
            job = jobs.observe(self._folder, False)
            if job.state == "failed":
                jobs.discard(self._folder)
                raise VolumeError(f"{subject}: the surfaces cannot be made: {job.message}")
            found = self._made() if job.state == "none" else None
            if found is not None:
                return found
            _started.intersection_update([other for other in _started if jobs.is_running(other)])
            if job.state == "none" and stops == _stops and len(_started) < MAX_AT_ONCE:
                case = [str(self.checkpoint), str(self.dataset.path), subject]
                options = ["--json", "--progress", f"--checkpoints={runs_root()}"]
                # Behind "--", as the ID of a subject may begin with "-".
                jobs.start(self._folder, ["review", "surfaces", *options, "--", *case])
                _started.add(self._folder)
        raise Pending(job.done / job.total if job.total else 0)

    def _made(self) -> tuple[bytes, int] | None:
        """What the job has made, unless another process has replaced it."""
        with contextlib.suppress(OSError, ValueError, KeyError, SurfaceFileError):
            report = jobs.standard_output(self._folder)
            content = Path(report["file"]).read_bytes()
            header, _, end = read_header(content)
            if header["key"] == report["key"]:
                return content, end
        return None

    @property
    def _folder(self) -> Path:
        return cache_root() / "surfaces" / hashes.short_hash(self.name)


def stamp_of(dataset: Dataset, prediction: Prediction) -> str:
    """Text that changes with the files of reference and prediction of a case, and with the classes of the data set."""
    files = subject_hash(dataset, prediction.subject)
    return f"{files} {hashes.files_hash(json.dumps(dataset.labels.to_json()), [prediction.file])}"
