"""Calibration of kept predictions (:mod:`core.evaluation.calibration`), counted from their kept probability maps and
stored beside them (:mod:`core.runs.kept_counts`). Works without torch where the maps are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import Dataset
from core.errors import VolumeError
from core.evaluation.calibration import CalibrationCounts, count_calibration
from core.evaluation.compared_subject import read_compared
from core.formatting import format_size
from core.imaging.volume import read_label
from core.inference.uncertainty import PROBABILITY
from core.labels import IGNORE_INDEX
from core.runs.kept_counts import CountsKind, KeptCounts
from core.runs.kept_maps import LEVELS, kinds_of, map_file, read_kept_maps
from core.runs.predictions import Prediction
from core.types import ProgressCallback, TextProgressCallback

CaseCalibration: TypeAlias = Mapping[str, CalibrationCounts]  # by class or region
MapMaker: TypeAlias = Callable[[Prediction, ProgressCallback], object]
MAPS_SHARE = 0.95  # of the work on a case whose maps are made


def _parse(data: Mapping[str, Any]) -> CaseCalibration:
    return {str(name): CalibrationCounts.from_json(counts) for name, counts in data.items()}


_KIND: CountsKind[CaseCalibration] = CountsKind("calibration", 1, _parse)


def read_calibration(predictions: Mapping[str, Prediction]) -> KeptCounts[CaseCalibration]:
    """The calibration of kept predictions that have a score; parameters are those of
    :meth:`core.runs.kept_counts.CountsKind.read`."""
    return _KIND.read(predictions)


def calibrate_kept(
    dataset: Dataset,
    metadata: CheckpointMetadata,
    predictions: Mapping[str, Prediction],
    make_maps: MapMaker,
    progress: TextProgressCallback | None = None,
) -> KeptCounts[CaseCalibration]:
    """Count the predictions that are not counted yet or have failed, and keep the counts.

    Parameters
    ----------
    dataset : Dataset. The data set of the predictions.
    metadata : CheckpointMetadata. Metadata of the checkpoint that made them.
    make_maps : callable. Makes and keeps the maps of a prediction (:func:`core.runs.map_maker.make_maps`), where there
        are none.

    The other parameters and the errors are those of :meth:`core.runs.kept_counts.CountsKind.count`.
    """

    def count(kept: Prediction, show: Callable[[float], None]) -> Any:
        if read_kept_maps(kept.file, kept.made_at) is None:
            make_maps(kept, lambda done, total: show(MAPS_SHARE * done / total))
        counts = _count(dataset, metadata, kept)
        return {name: one.to_json() for name, one in counts.items()}

    return _KIND.count(predictions, count, progress)


def _count(dataset: Dataset, metadata: CheckpointMetadata, kept: Prediction) -> CaseCalibration:
    """The counts of a prediction whose maps are kept."""
    compared = read_compared(dataset, kept.subject, metadata.label_space, kept.file)
    truth, regions = compared.known_truth, metadata.trained_regions
    known, found = truth != IGNORE_INDEX, {}
    for kind in kinds_of(metadata, passes=1):
        if kind.group != PROBABILITY or kind.channel is None:
            continue
        file = map_file(kept.file, kind)
        stored = read_label(file).data[0]
        if stored.shape != truth.shape or int(stored.max()) > LEVELS:
            raise VolumeError(
                f"{file}: expected a map of steps from 0 to {LEVELS} of {format_size(truth.shape)} voxels, found "
                f"{format_size(stored.shape)} up to {int(stored.max())}; remove it and count again"
            )
        members = (kind.channel,) if regions is None else regions.members[kind.channel]
        found[kind.choice] = count_calibration(stored, np.isin(truth, members), LEVELS, known)
    return found
