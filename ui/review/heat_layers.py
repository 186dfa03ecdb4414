"""The heat layers of a kept prediction: uncertainty, disagreement of an ensemble, and probabilities."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from core.checkpointing.metadata import CheckpointMetadata
from core.errors import VolumeError
from core.inference.uncertainty import MUTUAL_INFORMATION, PROBABILITY, MapKind
from core.runs.kept_maps import LEVELS, kinds_of, map_file, passes_of, read_kept_maps
from core.runs.predictions import Prediction
from ui.shared import maps_job
from ui.shared.hashes import files_hash
from ui.viewer.heat import HeatFile, HeatScale, disagreement
from ui.viewer.volumes import Pending

ON_DEMAND = "; computed when it is first shown"


def heat_of(
    checkpoint: Path, data: Path, metadata: CheckpointMetadata, prediction: Prediction | None
) -> list[HeatFile]:
    """The heat layers of a prediction; maps that are not kept are made when they are first shown.

    Parameters
    ----------
    checkpoint, data : Path. The model, and the folder of the data set.
    metadata : CheckpointMetadata. Metadata of the model.
    prediction : Prediction or None. The kept prediction of the case; nothing is offered without one. Maps of an
        outdated one cannot be made.
    """
    if prediction is None:
        return []
    kept = read_kept_maps(prediction.file, prediction.made_at)
    layers = [disagreement(prediction.disagreement)] if prediction.disagreement is not None else []
    if kept is None and prediction.stale:
        return layers
    passes = passes_of(metadata, prediction.settings) if kept is None else kept.passes
    note = ON_DEMAND if kept is None else ""
    if kept is not None and kept.changed_voxels:
        note = f"; made later: {kept.changed_voxels:,} voxels had another class than in the prediction"
    version = f"{files_hash('', [prediction.file])}\n{prediction.made_at}"
    for kind in kinds_of(metadata, passes):
        unit, digits = kind.unit, 1 if kind.group == PROBABILITY else 2
        layers.append(
            HeatFile(
                kind.name,
                map_file(prediction.file, kind),
                HeatScale(0, kind.high, LEVELS, unit, digits, kind.shown_high),
                _help(kind) + note,
                group=kind.group,
                choice=kind.choice,
                prepare=partial(_prepare, checkpoint, data, prediction, kind),
                version=f"{version}\n{kind.key}",
            )
        )
    return layers


def _help(kind: MapKind) -> str:
    if kind.group == PROBABILITY:
        return f"probability that the model gives {kind.choice}"
    if kind.key == MUTUAL_INFORMATION:
        return (
            "part of the uncertainty in which mirrored passes, or networks of the ensemble, contradict each other: at "
            f"most {kind.high:.4g} {kind.unit}; the brightest colour from {kind.shown_high:.4g} {kind.unit} on, in all "
            "cases"
        )
    return f"entropy of the probabilities: 0 where the model is sure, {kind.high:.4g} {kind.unit} where it cannot tell"


def _prepare(checkpoint: Path, data: Path, prediction: Prediction, kind: MapKind) -> None:
    """Make the maps of a prediction unless they are kept.

    Raises
    ------
    Pending
        While they are made.
    VolumeError
        If the prediction has no such map: one pass has no mutual information.
    """
    job = maps_job.advance(checkpoint, data, prediction)
    if job.state != "done":
        raise Pending(job.done / job.total if job.total else 0)
    kept = read_kept_maps(prediction.file, prediction.made_at)
    if kind.key == MUTUAL_INFORMATION and kept is not None and kept.passes == 1:
        raise VolumeError(
            f"{prediction.subject}: expected several passes to compare, got one, since an image without known sides is "
            "not mirrored; mutual information means nothing here: look at the uncertainty"
        )
