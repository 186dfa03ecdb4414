"""The heat layers of a kept prediction: uncertainty, disagreement, probabilities, logits, feature maps of a stage."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from core.checkpointing.metadata import CheckpointMetadata
from core.errors import VolumeError
from core.inference.uncertainty import LOGIT, MUTUAL_INFORMATION, PROBABILITY, UNCERTAINTY, MapKind
from core.runs.kept_maps import LEVELS, KeptMaps, has_logits, kinds_of, map_file, passes_of, read_kept_maps
from core.runs.kept_stage_maps import KeptStage, KeptStageMap, stage_map_file
from core.runs.predictions import Prediction
from ui.shared import formatting, maps_job
from ui.shared.hashes import files_hash
from ui.viewer.heat import HeatFile, HeatScale, disagreement
from ui.viewer.volumes import Pending

ON_DEMAND = "; computed when it is first shown"
FEATURE = "feature"  # group of the feature maps


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
    version = f"{files_hash('', [prediction.file])}\n{prediction.made_at}"
    for kind in kinds_of(metadata, passes, has_logits(metadata)):
        is_made, digits = _is_made(kept, kind), 2 if kind.group == UNCERTAINTY else 1
        if not is_made and prediction.stale:
            continue
        layers.append(
            HeatFile(
                kind.name,
                map_file(prediction.file, kind),
                HeatScale(kind.low, kind.high, LEVELS, kind.unit, digits, kind.shown_high, signed=kind.low < 0),
                _help(kind) + (_remark(kept) if is_made else ON_DEMAND),
                group=kind.group,
                choice=kind.choice,
                prepare=partial(_prepare, checkpoint, data, prediction, kind),
                version=f"{version}\n{kind.key}",
            )
        )
    return layers


def stage_layers(prediction: Prediction, kept: KeptStage) -> list[HeatFile]:
    """The heat layers of the kept feature maps of a stage."""
    return [
        HeatFile(
            feature_name(kept.stage, one.channel),
            stage_map_file(prediction.file, kept.stage, one.key),
            _scale(one),
            _stage_help(kept, one),
            group=FEATURE,
            choice=f"{kept.stage}, {_choice(one.channel)}",
        )
        for one in kept.maps
    ]


def feature_name(stage: str, channel: int | None) -> str:
    """Name of the layer of a channel of a stage; ``None`` for the mean over its channels."""
    return f"{stage} {_choice(channel)}"


def _choice(channel: int | None) -> str:
    return "mean" if channel is None else f"channel {channel}"


def _scale(one: KeptStageMap) -> HeatScale:
    """The range of a feature map, with as many decimals as tell two steps apart."""
    digits = min(max(math.ceil(-math.log10(_step(one))), 0), 6)
    return HeatScale(one.low, one.high, LEVELS, "", digits, one.bright, signed=one.low < 0)


def _step(one: KeptStageMap) -> float:
    return (one.high - one.low) / LEVELS


def _stage_help(kept: KeptStage, one: KeptStageMap) -> str:
    count = formatting.count(kept.channel_count, "channel")
    what = (
        f"mean of the absolute activations of all {count} of {kept.stage}"
        if one.channel is None
        else f"activation of channel {one.channel} (from 0) of {count} of {kept.stage}"
    )
    return (
        f"{what}, in voxels of {formatting.size(kept.voxel_mm)} mm, not smoothed; where tiles overlap, that of the "
        f"tile whose centre is nearest; stored in steps of {_step(one):.2g} from {one.low:.4g} to {one.high:.4g}, the "
        "range of this map in this case"
    )


def _is_made(kept: KeptMaps | None, kind: MapKind) -> bool:
    return kept is not None and (kept.logits or kind.group != LOGIT)


def _remark(kept: KeptMaps | None) -> str:
    if kept is None or not kept.changed_voxels:
        return ""
    return f"; made later: {kept.changed_voxels:,} voxels had another class than in the prediction"


def _help(kind: MapKind) -> str:
    if kind.group == LOGIT:
        return (
            f"pre-activation of {kind.choice} in the last layer, averaged over tiles and mirrored passes: the input of "
            f"the softmax, or of the sigmoid of regions, so differences between classes count; 0 has no colour, the "
            f"brightest are from ±{kind.shown_high:.4g} on, and values beyond "
            f"±{kind.high:.4g} are shown as those, in all cases"
        )
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
    job = maps_job.advance(checkpoint, data, prediction, logits=kind.group == LOGIT)
    if job.state != "done":
        raise Pending(job.done / job.total if job.total else 0)
    kept = read_kept_maps(prediction.file, prediction.made_at)
    if kind.key == MUTUAL_INFORMATION and kept is not None and kept.passes == 1:
        raise VolumeError(
            f"{prediction.subject}: expected several passes to compare, got one, since an image without known sides is "
            "not mirrored; mutual information means nothing here: look at the uncertainty"
        )
