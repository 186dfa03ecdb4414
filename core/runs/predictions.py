"""Stored predictions: a label map per subject of a data set with its scores and the checkpoint that made it.

Predictions of a run's checkpoint are in the run folder and are deleted with it; those of other checkpoints are under
the checkpoints root:

==================================================  ================================================================
``<run>/predictions/<data set>-<hash>/``            predicted with a checkpoint of a run
``predictions/<model>-<hash>/<data set>-<hash>/``   predicted with another file: the demo model, an upload
``<subject>.nii.gz``                                label map in the geometry and orientation of the subject's image
``disagreement/<subject>.nii.gz``                   where the members of an ensemble disagree, in percent
``maps/<subject>/``                                 uncertainty, probabilities, logits (:mod:`core.runs.kept_maps`)
``surfaces/<subject>.bin``                          surfaces of the classes (:mod:`core.runs.kept_surfaces`)
``<subject>.json``                                  record: scores and origin; without it there is no prediction
==================================================  ================================================================

Files are written atomically, the record last, so a kill leaves no half-written prediction.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core.checkpointing.metadata import CheckpointMetadata, read_metadata
from core.datasets import Dataset
from core.errors import RunError
from core.evaluation.metrics import SubjectScore
from core.evaluation.subject_prediction import SubjectPrediction
from core.files import atomic_write, may_be_present
from core.imaging.volume import write_label
from core.runs.kept_maps import in_percent, remove_maps, write_maps
from core.runs.prediction_origin import ORIGIN, CurrentState, checkpoint_identity, origin
from core.runs.store import folder as files
from core.runs.store.process import locked
from core.strict_json import plain

RECORD_VERSION = 1
MAX_NAME_LENGTH = 120
DISAGREEMENT = "disagreement"  # folder of the maps of ensembles
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Prediction:
    """Prediction of one subject by one checkpoint.

    Attributes
    ----------
    subject : str. Subject id.
    file : Path. NIfTI label map in the geometry of the subject's image, with the raw values of the label space.
    score : SubjectScore or None. Scores against the reference; ``None`` without a reference.
    epoch, step : int. Epoch and step of the checkpoint.
    stale_reason : str. What has changed since, as the end of a sentence; empty if nothing has.
    made_at : float. Time of the prediction, in seconds since 1970.
    warnings : tuple of str. Reasons why the prediction may be wrong.
    settings : dict. Device and inference options; empty in records of earlier versions.
    unprocessed_score : SubjectScore or None. Scores without the postprocessing; ``None`` where there is none.
    disagreement : Path or None. NIfTI map of the disagreement of the members of an ensemble, in percent.
    mean_disagreement : float or None. Its mean over the voxels of the classes, 0 to 1; ``None`` for a single network.
    """

    subject: str
    file: Path
    score: SubjectScore | None
    epoch: int
    step: int
    stale_reason: str
    made_at: float
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    unprocessed_score: SubjectScore | None = None
    disagreement: Path | None = None
    mean_disagreement: float | None = None

    @property
    def stale(self) -> bool:
        """Whether the checkpoint, or the files, channels or label values of the subject have changed since."""
        return bool(self.stale_reason)


def predictions_folder(root: Path, checkpoint: Path, dataset: Path) -> Path:
    """Folder of the predictions of a data set by a checkpoint; it need not exist."""
    checkpoint, dataset = Path(os.path.abspath(checkpoint)), dataset.resolve()
    name = f"{_slug(dataset.name)}-{_hash(dataset, checkpoint.name)}"
    if may_be_present(checkpoint.parent / files.CONFIG):
        return checkpoint.parent / files.PREDICTIONS / name
    model = f"{_slug(checkpoint.parent.name)}-{_hash(checkpoint)}"
    return root / files.PREDICTIONS / model / name


def save_prediction(folder: Path, metadata: CheckpointMetadata, dataset: Dataset, result: SubjectPrediction) -> Path:
    """Write the prediction of a subject; an earlier one is replaced.

    Parameters
    ----------
    folder : Path. Folder of :func:`predictions_folder`, created if missing.
    metadata : CheckpointMetadata. Metadata of the checkpoint.
    dataset : Dataset. The data set of the subject.
    result : SubjectPrediction. The prediction in the classes of the checkpoint.

    Returns
    -------
    Path
        The label map's file.

    Raises
    ------
    RunError, VolumeError
        If the folder or a file cannot be written (disk full, no permission); then there is no prediction.
    """
    loaded, score = result.subject, result.score
    content = {
        "version": RECORD_VERSION,
        "subject": loaded.id,
        "score": None if score is None else score.to_json(),
        "unprocessed_score": None if result.unprocessed_score is None else result.unprocessed_score.to_json(),
        "mean_disagreement": _mean_disagreement(result),
        "checkpoint": checkpoint_identity(metadata),
        **origin(dataset, loaded.id, metadata),
        "warnings": list(result.warnings),
        "settings": result.settings,
        "made_at": time.time(),
    }

    def write(file: Path) -> None:
        write_label(file, metadata.label_space.to_raw(result.prediction), loaded.stored, loaded.first_image)
        disagreement = _disagreement_file(file)
        if result.disagreement is not None:
            disagreement.parent.mkdir(exist_ok=True)
            write_label(disagreement, in_percent(result.disagreement), loaded.stored, loaded.first_image)
        else:
            disagreement.unlink(missing_ok=True)
        if result.maps is not None:
            write_maps(file, metadata, loaded, result.maps, {"made_at": content["made_at"]})

    return _store(folder, content, write)


def portable_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without the paths and stamps of the files that it was made from, to be shipped with copies of them."""
    return {name: value for name, value in record.items() if name not in ORIGIN}


def adopt_prediction(
    folder: Path, metadata: CheckpointMetadata, dataset: Dataset, record: Mapping[str, Any], label_map: Path
) -> Path:
    """Store a prediction that was made elsewhere, from copies of the files that the data set has for the subject.

    Parameters
    ----------
    record : mapping. Result of :func:`portable_record`.
    label_map : Path. Its label map, which is copied.

    The other parameters, the result and the errors are those of :func:`save_prediction`.
    """
    content = {**record, **origin(dataset, record["subject"], metadata)}

    def write(file: Path) -> None:
        try:
            atomic_write(file, label_map.read_bytes())
        except OSError as error:
            raise RunError(f"{file}: cannot be written: {error.strerror or error}") from error

    return _store(folder, content, write)


def read_predictions(root: Path, checkpoint: Path, dataset: Path) -> dict[str, Prediction]:
    """Valid predictions of a data set by a checkpoint, by subject id.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read.
    """
    folder = predictions_folder(root, checkpoint, dataset)
    current = CurrentState(read_metadata(checkpoint), dataset)
    predictions = {}
    try:
        records = sorted(folder.glob("*.json"))
    except OSError:
        return {}
    for path in records:
        prediction = _read(path, current)
        if prediction is not None:
            predictions[prediction.subject] = prediction
    return predictions


def read_prediction(root: Path, checkpoint: Path, dataset: Dataset, subject: str) -> Prediction | None:
    """The valid prediction of one subject by a checkpoint; ``None`` without one.

    Parameters
    ----------
    dataset : Dataset. The data set, opened as the checkpoint's configuration says; it is not opened again.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read.
    """
    record = predictions_folder(root, checkpoint, dataset.path) / f"{safe_file_name(subject)}.json"
    if not may_be_present(record):
        return None
    prediction = _read(record, CurrentState(read_metadata(checkpoint), dataset.path, dataset))
    return prediction if prediction is not None and prediction.subject == subject else None


def safe_file_name(subject: str) -> str:
    """A file name for any subject id: the id where it is a safe file name, else percent-encoded, shortened if long."""
    if _SAFE.fullmatch(subject) and len(subject) <= MAX_NAME_LENGTH:
        return subject
    text = quote(subject, safe="", errors="surrogatepass").replace("~", "%7E")
    text = "%2E" + text[1:] if text.startswith(".") else text
    if len(text) > MAX_NAME_LENGTH:
        text = f"{text[:MAX_NAME_LENGTH]}%-{hashlib.sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    return text


def _store(folder: Path, content: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
    """Write label map and record of a prediction; an earlier one is replaced. Returns the label map's file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be created: {error.strerror or error}; nothing was written") from error
    name = safe_file_name(content["subject"])
    file, record = folder / f"{name}.nii.gz", folder / f"{name}.json"
    with locked(folder / files.LOCK, timeout_s=60):
        try:
            record.unlink(missing_ok=True)  # a kill must not leave the old score with the new label map
        except OSError as error:
            raise RunError(f"{record}: cannot be replaced: {error.strerror or error}") from error
        remove_maps(file)
        write(file)
        files.write_json(record, plain(content))
    return file


def _read(path: Path, current: CurrentState) -> Prediction | None:
    """The prediction of a record; ``None`` where the record is damaged or foreign, or the label map is missing."""
    file = path.with_suffix(".nii.gz")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["version"] != RECORD_VERSION or safe_file_name(record["subject"]) != path.stem or not file.is_file():
            return None
        made_by = dict(record["checkpoint"])
        return Prediction(
            subject=record["subject"],
            file=file,
            score=None if record["score"] is None else SubjectScore.from_json(record["score"]),
            epoch=int(made_by["epoch"] or 0),
            step=int(made_by["step"] or 0),
            stale_reason=current.stale_reason(record),
            made_at=float(record["made_at"]),
            warnings=tuple(str(text) for text in record.get("warnings", ())),
            settings=dict(record.get("settings") or {}),
            unprocessed_score=None
            if record.get("unprocessed_score") is None
            else SubjectScore.from_json(record["unprocessed_score"]),
            disagreement=_disagreement_file(file) if _disagreement_file(file).is_file() else None,
            mean_disagreement=record.get("mean_disagreement"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _mean_disagreement(result: SubjectPrediction) -> float | None:
    foreground = result.prediction > 0
    if result.disagreement is None or not foreground.any():
        return None
    return float(result.disagreement[foreground].mean())


def _disagreement_file(label_map: Path) -> Path:
    return label_map.parent / DISAGREEMENT / label_map.name


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40] or "data"


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:12]
