"""Segmentations that are kept: one label map per subject of a data set, its score, and which checkpoint made it.

Those of a run lie in its folder and go with it; those of any other checkpoint under the root of runs:

==================================================  ================================================================
``<run>/predictions/<data set>-<hash>/``            made with a run's checkpoint
``predictions/<model>-<hash>/<data set>-<hash>/``   made with another file: the ready-made model, an upload
``<subject>.nii.gz``                                the label map, in the place and orientation of the subject's image
``<subject>.json``                                  its score, and what it was made from; without it there is no
                                                    prediction
==================================================  ================================================================

Each file appears complete or not at all, and the record last, so a kill at any instant leaves no prediction rather than
half of one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from core.checkpointing.metadata import Description, read_description
from core.datasets import Dataset, LoadedSubject
from core.errors import RunError
from core.evaluation.metrics import SubjectScore
from core.imaging.volume import write_label
from core.runs.store import folder as files
from core.runs.store.process import locked
from core.strict_json import plain

RECORD_VERSION = 1
LONGEST_NAME = 120
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Prediction:
    """One subject segmented by one checkpoint.

    Attributes
    ----------
    subject : its id.
    file : NIfTI label map in the input's geometry, with the raw values of the network's label space.
    score : against the truth, or ``None`` where there was none.
    epoch, step : of the checkpoint that made it.
    stale : the checkpoint, or a file of the subject, has changed since.
    made_at : Unix seconds.
    """

    subject: str
    file: Path
    score: SubjectScore | None
    epoch: int
    step: int
    stale: bool
    made_at: float


def predictions_folder(root: Path, checkpoint: Path, dataset: Path) -> Path:
    """Where the segmentations of a data set by a checkpoint lie; the folder need not exist."""
    checkpoint, dataset = Path(os.path.abspath(checkpoint)), dataset.resolve()
    name = f"{_slug(dataset.name)}-{_hash(dataset, checkpoint.name)}"
    if (checkpoint.parent / files.CONFIG).is_file():
        return checkpoint.parent / files.PREDICTIONS / name
    model = f"{_slug(checkpoint.parent.name)}-{_hash(checkpoint)}"
    return root / files.PREDICTIONS / model / name


def keep_prediction(
    folder: Path,
    description: Description,
    dataset: Dataset,
    loaded: LoadedSubject,
    prediction: np.ndarray,
    score: SubjectScore | None,
) -> Path:
    """Write one prediction; one of the same subject that was there before is replaced.

    Parameters
    ----------
    folder : of :func:`predictions_folder`; made if missing.
    description : of the checkpoint that made it.
    loaded : the subject as it was read from ``dataset``.
    prediction : class indices of the network, shape (i, j, k), on the grid of ``loaded``.

    Returns
    -------
    The label map's file.

    Raises
    ------
    RunError, VolumeError
        If the folder or a file cannot be written (disk full, no permission); then there is no prediction.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made: {error.strerror or error}; nothing was kept") from error
    name = _file_name(loaded.id)
    file, record = folder / f"{name}.nii.gz", folder / f"{name}.json"
    facts = {
        "version": RECORD_VERSION,
        "subject": loaded.id,
        "score": None if score is None else score.to_json(),
        "checkpoint": _identity(description),
        "inputs": _stamps(dataset, loaded.id),
        "made_at": time.time(),
    }
    with locked(folder / files.LOCK, timeout_s=60):
        try:
            record.unlink(missing_ok=True)  # never a score beside another segmentation, not even after a kill
        except OSError as error:
            raise RunError(f"{record}: cannot be replaced: {error.strerror or error}") from error
        write_label(file, description.label_space.to_raw(prediction), loaded.stored, loaded.first_image)
        files.write_json(record, plain(facts))
    return file


def kept_predictions(root: Path, checkpoint: Path, dataset: Path) -> dict[str, Prediction]:
    """The predictions of a data set by a checkpoint, by subject id; damaged ones are left out.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read.
    """
    folder = predictions_folder(root, checkpoint, dataset)
    now = plain(_identity(read_description(checkpoint)))
    found = {}
    try:
        records = sorted(folder.glob("*.json"))
    except OSError:
        return {}
    for path in records:
        prediction = _read(path, now)
        if prediction is not None:
            found[prediction.subject] = prediction
    return found


def _read(path: Path, now: Mapping[str, Any]) -> Prediction | None:
    """One prediction by its record; ``None`` where that or the label map is damaged, missing or not ours."""
    file = path.with_suffix(".nii.gz")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["version"] != RECORD_VERSION or _file_name(record["subject"]) != path.stem or not file.is_file():
            return None
        made_by = dict(record["checkpoint"])
        return Prediction(
            subject=record["subject"],
            file=file,
            score=None if record["score"] is None else _score(record["score"]),
            epoch=int(made_by["epoch"] or 0),
            step=int(made_by["step"] or 0),
            stale=made_by != now
            or any((_stamp(Path(name)) or [0, 0]) != [size, changed] for name, size, changed in record["inputs"]),
            made_at=float(record["made_at"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _score(data: Mapping[str, Any]) -> SubjectScore:
    def numbers(values: Mapping[str, Any]) -> dict[str, float]:
        return {str(name): math.nan if value is None else float(value) for name, value in values.items()}

    return SubjectScore(
        numbers(data["dice"]),
        numbers(data["hd95_mm"]),
        numbers(data["asd_mm"]),
        tuple(str(name) for name in data["missed"]),
        {str(name): numbers(volumes) for name, volumes in data["volume_ml"].items()},
    )


def _identity(description: Description) -> dict[str, Any]:
    """What tells one state of a checkpoint from another, without reading its tensors."""
    progress = description.progress
    return {
        "epoch": progress.get("epoch"),
        "step": progress.get("step"),
        "elapsed_s": progress.get("elapsed_s"),
        "labels": description.labels,
    }


def _stamps(dataset: Dataset, subject_id: str) -> list[list[Any]]:
    """The files of a subject as they are now: path, bytes, time of change."""
    subject = dataset.subject(subject_id)
    used = dict.fromkeys(ref.path for ref in subject.images.values())
    named = [*used, *([subject.label] if subject.label is not None else [])]
    paths = [*named, *(path.with_suffix(".img") for path in named if path.suffix == ".hdr")]
    return [[os.path.abspath(path), *(_stamp(path) or [0, 0])] for path in paths]


def _stamp(path: Path) -> list[int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns]


def _file_name(subject: str) -> str:
    """A file name for any id: itself where it is one already, else percent-encoded, and cut where it is long."""
    if _SAFE.fullmatch(subject) and len(subject) <= LONGEST_NAME:
        return subject
    text = quote(subject, safe="", errors="surrogatepass").replace("~", "%7E")
    text = "%2E" + text[1:] if text.startswith(".") else text
    if len(text) > LONGEST_NAME:
        text = f"{text[:LONGEST_NAME]}%-{hashlib.sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    return text


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40] or "data"


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:12]
