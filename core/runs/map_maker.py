"""Makes the maps of a stored prediction, by segmenting its subject again, and feature maps of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.compute.device import resolve_device
from core.compute.precision import DTYPES
from core.datasets import Dataset, load_subject
from core.errors import ConfigError, RunError
from core.formatting import format_count
from core.imaging.volume import read_label
from core.inference.ensemble_predictor import open_predictor
from core.inference.predictor import MODES, InferenceOverrides, Predictor
from core.inference.stage_maps import StageRequest
from core.inference.stage_pass import compute_stage_maps
from core.inference.subject_image import SubjectImage
from core.runs.kept_maps import MadeMaps, add_maps, has_logits
from core.runs.kept_stage_maps import KeptStage, add_stage_maps, read_kept_stage, with_kept
from core.runs.predictions import Prediction
from core.strict_json import plain
from core.types import ProgressCallback

MAX_CHANGED = 0.005  # share of the segmented voxels that may get another class, as on another processor


def make_maps(
    checkpoint: Path,
    dataset: Dataset,
    prediction: Prediction,
    progress: ProgressCallback | None = None,
    *,
    logits: bool = False,
) -> MadeMaps:
    """Make and keep the maps of a prediction.

    Parameters
    ----------
    checkpoint : Path. The model that made the prediction.
    dataset : Dataset. The data set of its subject.
    prediction : Prediction. The stored prediction; it stays as it is.
    progress : callable, optional. Called with (tiles done, total tiles).
    logits : bool. Whether logits are made, too; an ensemble has none.

    Raises
    ------
    RunError
        If the prediction is not that of the checkpoint and the files of now, or the maps cannot be written.
    UserError
        As :meth:`core.inference.predictor.Predictor.segment` and :func:`core.datasets.load_subject`.
    """
    _check_up_to_date(prediction)
    predictor = _predictor_of(checkpoint, prediction.settings, maps=True, logits=logits)
    subject = load_subject(dataset, prediction.subject, predictor.modalities)
    segmentation = predictor.segment_in_detail(SubjectImage.of(subject), progress)
    labels = predictor.postprocess(segmentation.labels, subject.geometry.voxel_ml)
    kept = predictor.labels.to_index(read_label(prediction.file).data[0])
    changed = int(np.count_nonzero(labels != kept))
    if changed > MAX_CHANGED * np.count_nonzero(kept | labels):
        raise RunError(
            f"{prediction.subject}: expected the kept segmentation, but the model now gives "
            f"{format_count(changed, 'voxel')} another class, so that maps would not belong to it; segment the case "
            "again"
        )
    assert segmentation.maps is not None
    made = MadeMaps(segmentation.maps, changed)
    add_maps(prediction.file, prediction.made_at, predictor.metadata, subject, made)
    return made


def make_stage_maps(
    checkpoint: Path,
    dataset: Dataset,
    prediction: Prediction,
    request: StageRequest,
    progress: ProgressCallback | None = None,
) -> KeptStage:
    """Make and keep feature maps of a stage, with those of this stage that are kept already.

    Parameters
    ----------
    checkpoint : Path. The model that made the prediction, one network.
    request : StageRequest. Stage and channels.

    The other parameters are those of :func:`make_maps`.

    Raises
    ------
    RunError
        If the prediction is not that of the checkpoint and the files of now, or the maps cannot be written.
    UserError
        As :func:`core.inference.stage_pass.compute_stage_maps` and :func:`core.datasets.load_subject`.
    """
    _check_up_to_date(prediction)
    predictor = _predictor_of(checkpoint, prediction.settings)
    if not has_logits(predictor.metadata):
        raise ConfigError(
            f"{checkpoint}: expected one network, got an ensemble, each network of which has stages of its own; give "
            "one of its networks"
        )
    kept = read_kept_stage(prediction.file, prediction.made_at, request.stage)
    request = with_kept(request, kept)
    subject = load_subject(dataset, prediction.subject, predictor.modalities)
    maps = compute_stage_maps(predictor, SubjectImage.of(subject), request, progress)
    return add_stage_maps(prediction.file, prediction.made_at, subject, maps, request.strongest)


def _check_up_to_date(prediction: Prediction) -> None:
    if prediction.stale:
        raise RunError(
            f"{prediction.subject}: expected an up-to-date segmentation, got one made {prediction.stale_reason}; "
            "segment the case again"
        )


def _predictor_of(
    checkpoint: Path, settings: Mapping[str, Any], *, maps: bool = False, logits: bool = False
) -> Predictor:
    """The model with the options by which a prediction was made."""
    mode, precision = settings.get("mode"), settings.get("precision")
    same_device = settings.get("device") == resolve_device("auto").type
    overrides = InferenceOverrides(
        mode=mode if mode in MODES else "auto",
        overlap=settings.get("overlap"),
        precision=precision if same_device and precision in DTYPES else "auto",
        mirror=settings.get("mirror"),
        postprocess=bool(settings.get("postprocessing", True)),
        maps=maps,
        logits=logits,
    )
    predictor = open_predictor((checkpoint,), overrides)
    resampled = _voxel_sizes(settings)
    if any(resampled) and resampled != _voxel_sizes(plain(predictor.settings())):
        return open_predictor((checkpoint,), replace(overrides, resample=True))
    return predictor


def _voxel_sizes(settings: Mapping[str, Any]) -> list[Any]:
    """Voxel sizes to which images were resampled: of a network, and of each member of an ensemble."""
    return [part.get("resampled_mm") for part in (settings, *settings.get("members", ()))]
