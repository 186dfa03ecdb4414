"""Scores of segmentations that no model has made, such as another rater's or those of a folder of files, in the classes
of a model and against the reference of the data set, so that they can be compared with the scores of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import Dataset
from core.datasets.loading import class_mapping, load_label
from core.datasets.other_segmentation import read_other_segmentation
from core.errors import DatasetError, UserError
from core.evaluation.file_comparison import doubts
from core.evaluation.metrics import ScoredNames, SubjectScore, score_subject
from core.formatting import format_count, format_list
from core.labels import IGNORE_INDEX
from core.types import TextProgressCallback


@dataclass(frozen=True)
class ImportedScores:
    """Scores of segmentations by case.

    Attributes
    ----------
    scores : dict. Score by id of the case.
    warnings : dict. By id, what was assumed about the file and what may make its score meaningless; only cases with
        any.
    failures : dict. By id, why a case has no score.
    """

    scores: dict[str, SubjectScore] = field(default_factory=dict)
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is not replaced."""
        return {
            "scores": {id: score.to_json() for id, score in self.scores.items()},
            "warnings": {id: list(texts) for id, texts in self.warnings.items()},
            "failures": self.failures,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImportedScores:
        """The inverse of :meth:`to_json`; ``None`` is NaN."""
        return cls(
            {str(id): SubjectScore.from_json(score) for id, score in data["scores"].items()},
            {str(id): tuple(map(str, texts)) for id, texts in data["warnings"].items()},
            {str(id): str(reason) for id, reason in data["failures"].items()},
        )


def score_files(
    dataset: Dataset,
    metadata: CheckpointMetadata,
    files: Mapping[str, Path],
    progress: TextProgressCallback | None = None,
) -> ImportedScores:
    """Score segmentation files as the predictions of a model are scored.

    Parameters
    ----------
    dataset : Dataset. The data set of the cases, whose label values the files have.
    metadata : CheckpointMetadata. Of the model, whose classes, regions and mean the scores have.
    files : mapping. Segmentation file by id of the case, on the grid of its image; nothing is resampled.
    progress : callable, optional. Called with (cases done, total cases, id of the current case).

    Raises
    ------
    DatasetError
        If the data set lacks a class of the model.
    """
    missing = [c.name for c in metadata.label_space.foreground if c.name not in dataset.labels.names]
    if missing:
        raise DatasetError(
            f"{dataset.path}: expected labels of the classes of the model, found no {format_list(missing)}; without a "
            "reference there are no scores"
        )
    found = ImportedScores()
    for number, (id, file) in enumerate(files.items()):
        if progress is not None:
            progress(number, len(files), id)
        try:
            found.scores[id], warnings = score_file(dataset, metadata, id, file)
        except UserError as error:
            found.failures[id] = str(error)
            continue
        if warnings:
            found.warnings[id] = warnings
    if progress is not None:
        progress(len(files), len(files), "")
    return found


def score_file(
    dataset: Dataset, metadata: CheckpointMetadata, subject: str, file: Path
) -> tuple[SubjectScore, tuple[str, ...]]:
    """Score one segmentation; its score, and what was assumed about the file or makes the score doubtful.

    Parameters
    ----------
    dataset, metadata : as for :func:`score_files`.
    subject : str. Id of the case.
    file : Path. Its segmentation.

    Raises
    ------
    UserError
        If the case has no reference, the file is not on the grid of its image or has values without a class, or a voxel
        that has a class in the reference has the ignore label in the file.
    """
    labels = metadata.label_space
    reference, geometry = load_label(dataset, subject, metadata.modalities)
    if reference is None:
        raise DatasetError(f"{subject}: expected a label map to compare with, found none")
    read = read_other_segmentation(dataset, subject, file, dataset.labels)
    to_model = class_mapping(dataset.labels.names, labels.names)
    truth, prediction = to_model[reference], to_model[read.index]
    warnings = list(read.warnings)
    hidden = [dataset.labels.names[n] for n in np.unique(read.index[(prediction == 0) & (read.index != 0)])]
    if hidden:
        warnings.append(f"counted as background, as the model has no such class: {format_list(hidden)}")
    ignored = prediction == IGNORE_INDEX
    undecided = int(np.count_nonzero(ignored & (truth != IGNORE_INDEX)))
    if undecided:
        raise DatasetError(
            f"{file}: expected a class in every voxel that counts, found the ignore label in "
            f"{format_count(undecided, 'voxel')} that the reference does not leave out; give them a class"
        )
    prediction[ignored] = 0  # left out by the reference
    scored = ScoredNames.of_checkpoint(metadata)
    in_mean = () if scored.in_mean == scored.names else scored.in_mean
    warnings += doubts(truth, prediction, labels.names, geometry)
    score = score_subject(truth, prediction, geometry.axes_mm, labels.names, metadata.regions, in_mean)
    return score, tuple(warnings)
