"""Stored predictions: a label map per subject of a data set with its scores and the checkpoint that made it.

Predictions of a run's checkpoint are in the run folder and are deleted with it; those of other checkpoints are under
the checkpoints root:

==================================================  ================================================================
``<run>/predictions/<data set>-<hash>/``            predicted with a checkpoint of a run
``predictions/<model>-<hash>/<data set>-<hash>/``   predicted with another file: the demo model, an upload
``<subject>.nii.gz``                                label map in the geometry and orientation of the subject's image
``disagreement/<subject>.nii.gz``                   where the members of an ensemble disagree, in percent
``maps/<subject>/``                                 uncertainty and probabilities (:mod:`core.runs.kept_maps`)
``<subject>.json``                                  record: scores and origin; without it there is no prediction
==================================================  ================================================================

Files are written atomically, the record last, so a kill leaves no half-written prediction.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core.checkpointing.metadata import MEMBERS, POSTPROCESSING, CheckpointMetadata, read_metadata
from core.datasets import DataOptions, Dataset, open_dataset
from core.datasets.layouts.recipe import OF_ONE_SUBJECT
from core.errors import DatasetError, RunError, VolumeError
from core.evaluation.metrics import SubjectScore
from core.evaluation.subject_prediction import SubjectPrediction
from core.files import atomic_write, file_stamp
from core.imaging.header_geometry import UNIT_MM
from core.imaging.headers import read_header
from core.imaging.image_files import files_of
from core.imaging.volume import write_label
from core.runs.kept_maps import in_percent, remove_maps, write_maps
from core.runs.store import folder as files
from core.runs.store.process import locked
from core.strict_json import plain

RECORD_VERSION = 1
OTHER_CHECKPOINT = "with an earlier checkpoint of this run"
CHANGED_FILES = "from files of this subject that have changed since"
OTHER_POSTPROCESSING = "with other postprocessing than the model has now"
OTHER_FILES = "from other files, channels or label values than the data set has for this subject now"
MISREAD_GEOMETRY = "by version 0.1, which ignored the unit or the sheared axes of its files"
MAX_NAME_LENGTH = 120
DISAGREEMENT = "disagreement"  # folder of the maps of ensembles
_ORIGIN = ("inputs", "layout", "sources")  # fields of a record that hold for one place only
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
    if (checkpoint.parent / files.CONFIG).is_file():
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
        "checkpoint": _checkpoint_identity(metadata),
        **_origin(dataset, loaded.id, metadata),
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
    return {name: value for name, value in record.items() if name not in _ORIGIN}


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
    content = {**record, **_origin(dataset, record["subject"], metadata)}

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
    current = _CurrentState(read_metadata(checkpoint), dataset)
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


def _store(folder: Path, content: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
    """Write label map and record of a prediction; an earlier one is replaced. Returns the label map's file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be created: {error.strerror or error}; nothing was written") from error
    name = _file_name(content["subject"])
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


class _CurrentState:
    """What predictions of a data set by a checkpoint depend on, at present."""

    def __init__(self, metadata: CheckpointMetadata, folder: Path) -> None:
        self._metadata, self._folder = metadata, folder
        self._identity = plain(_checkpoint_identity(metadata))
        self._datasets: dict[str, Dataset | None] = {}  # by layout; None: cannot be opened

    def stale_reason(self, record: Mapping[str, Any]) -> str:
        """What has changed since a record was written; empty if nothing has."""
        made_by = dict(record["checkpoint"])
        if made_by != self._identity:
            same = _without_postprocessing(made_by) == _without_postprocessing(self._identity)
            return OTHER_POSTPROCESSING if same else OTHER_CHECKPOINT
        if any(file_stamp(Path(name)) != (size, mtime_ns) for name, size, mtime_ns in record["inputs"]):
            return CHANGED_FILES
        sources = record.get("sources")  # records of version 0.1 have none
        if sources is None:
            return MISREAD_GEOMETRY if _version_0_1_misread(record["inputs"]) else ""
        now = self._sources(record["layout"], record["subject"])
        return "" if sources == now or (now and _resolved(sources) == _resolved(now)) else OTHER_FILES

    def _sources(self, layout: str, subject: str) -> Any:
        if layout not in self._datasets:
            try:
                options = DataOptions.from_config(self._metadata.train_config.data)
                self._datasets[layout] = open_dataset(self._folder, layout, options)
            except DatasetError:
                self._datasets[layout] = None
        dataset = self._datasets[layout]
        if dataset is None or subject not in dataset.ids:
            return None
        return plain(_sources(dataset, subject, self._metadata))


def _read(path: Path, current: _CurrentState) -> Prediction | None:
    """The prediction of a record; ``None`` where the record is damaged or foreign, or the label map is missing."""
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
            stale_reason=current.stale_reason(record),
            made_at=float(record["made_at"]),
            warnings=tuple(str(text) for text in record.get("warnings", ())),
            settings=dict(record.get("settings") or {}),
            unprocessed_score=None if record.get("unprocessed_score") is None else _score(record["unprocessed_score"]),
            disagreement=_disagreement_file(file) if _disagreement_file(file).is_file() else None,
            mean_disagreement=record.get("mean_disagreement"),
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
        {str(name): numbers(shares) for name, shares in data.get("surface_dice", {}).items()},
        tuple(str(name) for name in data.get("in_mean", ())),
    )


def _checkpoint_identity(metadata: CheckpointMetadata) -> dict[str, Any]:
    """Metadata that differs between two states of a checkpoint file; its tensors are not read."""
    progress = metadata.progress
    identity = {
        "epoch": progress.get("epoch"),
        "step": progress.get("step"),
        "elapsed_s": progress.get("elapsed_s"),
        "labels": metadata.labels,
    }
    if metadata.postprocessing:  # records of earlier versions have none
        identity[POSTPROCESSING] = metadata.postprocessing.to_json()
    if members := metadata.inference.get(MEMBERS):
        identity[MEMBERS] = members
    return identity


def _without_postprocessing(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name != POSTPROCESSING}


def _mean_disagreement(result: SubjectPrediction) -> float | None:
    foreground = result.prediction > 0
    if result.disagreement is None or not foreground.any():
        return None
    return float(result.disagreement[foreground].mean())


def _disagreement_file(label_map: Path) -> Path:
    return label_map.parent / DISAGREEMENT / label_map.name


def _origin(dataset: Dataset, subject_id: str, metadata: CheckpointMetadata) -> dict[str, Any]:
    """What a prediction was made from: the files of the subject as they are now, and how the data set reads them."""
    values = _file_stamps(dataset, subject_id), dataset.layout, _sources(dataset, subject_id, metadata)
    return dict(zip(_ORIGIN, values, strict=True))


def _file_stamps(dataset: Dataset, subject_id: str) -> list[list[Any]]:
    """Path, size in bytes and modification time in ns of each file of a subject."""
    subject = dataset.subject(subject_id)
    paths = [file for path in subject.files for file in files_of(path)]
    return [[os.path.abspath(path), *file_stamp(path)] for path in paths]


def _version_0_1_misread(inputs: Sequence[Sequence[Any]]) -> bool:
    """Whether version 0.1, which took every length for mm and all axes for orthogonal, mismeasured one of the files."""
    for name, *_ in inputs:
        try:
            header = read_header(name)
        except VolumeError:  # the file of voxels of a pair, or one that reading the subject refuses
            continue
        if UNIT_MM[header.unit] != 1 or header.geometry.is_sheared:
            return True
    return False


def _sources(dataset: Dataset, subject_id: str, metadata: CheckpointMetadata) -> dict[str, Any]:
    """Files and channels that a data set gives a network for a subject, its label map, and values of the classes."""
    subject = dataset.subject(subject_id)
    refs = {m: subject.images[m] for m in metadata.modalities if m in subject.images}
    mended = [kind for kind in OF_ONE_SUBJECT if subject_id in getattr(dataset.recipe, kind)]
    names = metadata.label_space.names
    return {
        "images": {modality: [os.path.abspath(ref.path), ref.channel] for modality, ref in refs.items()},
        "label": None if subject.label is None else os.path.abspath(subject.label),
        "values": {c.name: c.raw for c in dataset.labels.classes if c.name in names},
        **({"merged": [list(pair) for pair in sorted(dataset.value_map.items())]} if dataset.value_map else {}),
        **({"segments": [list(pair) for pair in sorted(dataset.segments.items())]} if dataset.segments else {}),
        **({"mended": mended} if mended else {}),
        "ignore": dataset.labels.ignore.raw if dataset.labels.ignore is not None else None,
    }


def _resolved(sources: Mapping[str, Any]) -> dict[str, Any]:
    """Sources with the links in their paths followed: a folder may be opened under several names."""
    images = {modality: [os.path.realpath(path), channel] for modality, (path, channel) in sources["images"].items()}
    label = sources["label"]
    return {**sources, "images": images, "label": None if label is None else os.path.realpath(label)}


def _file_name(subject: str) -> str:
    """A file name for any subject id: the id where it is a safe file name, else percent-encoded, shortened if long."""
    if _SAFE.fullmatch(subject) and len(subject) <= MAX_NAME_LENGTH:
        return subject
    text = quote(subject, safe="", errors="surrogatepass").replace("~", "%7E")
    text = "%2E" + text[1:] if text.startswith(".") else text
    if len(text) > MAX_NAME_LENGTH:
        text = f"{text[:MAX_NAME_LENGTH]}%-{hashlib.sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    return text


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40] or "data"


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:12]
