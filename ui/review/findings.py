"""What is wrong with the prediction of a case: found in a child process when the viewer asks for it, then cached."""

from __future__ import annotations

import json
import subprocess
import threading
from functools import partial
from pathlib import Path

from core.datasets import Dataset
from core.errors import VolumeError
from core.processes import module_command, run_limited
from core.runs.predictions import Prediction
from ui.shared.hashes import files_hash
from ui.shared.jobs import ended_by_signal
from ui.shared.paths import runs_root
from ui.viewer import volumes
from ui.viewer.scenes import Scene, subject_hash

VERSION = 2  # of what is found; part of the names of published findings, which a cache keeps
LIMIT_S = 900.0
MAX_AT_ONCE = 2  # child processes; further requests wait for them, volumes do not

_permits = threading.BoundedSemaphore(MAX_AT_ONCE)


def findings_url(checkpoint: Path, dataset: Dataset, prediction: Prediction | None, scene: Scene) -> str:
    """URL of the findings in a prediction (:meth:`core.evaluation.findings.Findings.to_json`) for the viewer.

    Parameters
    ----------
    checkpoint : Path. The model.
    dataset : Dataset. The data set of the case.
    prediction : Prediction or None. The kept prediction of the case.
    scene : Scene. Its scene.

    Returns
    -------
    str. Empty without a prediction or a reference.
    """
    if prediction is None or not {"truth", "prediction"} <= set(scene.layers):
        return ""
    files = subject_hash(dataset, prediction.subject)
    classes = json.dumps([dataset.labels.to_json(), [c["name"] for c in scene.classes]])
    stamp = files_hash("", [prediction.file])
    name = f"findings {VERSION}\n{checkpoint}\n{files}\n{stamp}\n{classes}"
    make = partial(_find, checkpoint, dataset.path, prediction, stamp)
    return volumes.publish_on_request(name, make, turn=lambda: _permits)


def _find(checkpoint: Path, data: Path, prediction: Prediction, stamp: str) -> bytes:
    """The findings as JSON.

    Raises
    ------
    VolumeError
        If a file cannot be read, it takes too long, or the case has been segmented again: the errors are those of the
        new segmentation then, and not of the one that is shown.
    """
    subject = prediction.subject
    # Behind "--", as the ID of a subject may begin with "-".
    arguments = ["--json", f"--checkpoints={runs_root()}", "--", str(checkpoint), str(data), subject]
    done = run_limited(module_command("core", "errors", *arguments), LIMIT_S)
    if done is None:
        raise VolumeError(f"{subject}: the search for errors did not end within {LIMIT_S / 60:.0f} minutes")
    if done.returncode:
        raise VolumeError(f"{subject}: the search for errors failed: {last_line(done)}")
    if files_hash("", [prediction.file]) != stamp:
        raise VolumeError(f"{subject}: this case was segmented again since the page was loaded; reload the page")
    return done.stdout.encode()


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Why a command failed: the signal that ended it, or the last line that it wrote to standard error."""
    if done.returncode < 0:
        return ended_by_signal(done.returncode)
    reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    return reason[0].removeprefix("error: ")
