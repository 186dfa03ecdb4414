"""Scores a trained network on the labelled subjects of a data set, in whole volumes on each subject's own grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.checkpoint import Description
from core.datasets import Dataset, load_subject
from core.datasets.base import shortened
from core.datasets.loading import class_mapping
from core.errors import DatasetError
from core.metrics import MeanScore, SubjectScore, score_subject, summarise
from core.predict import Segmenter

SplitName = Literal["test", "val", "train", "all"]
SPLITS: tuple[SplitName, ...] = ("test", "val", "train", "all")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found: the split, class names without the background, scores by subject id, their mean."""

    split: SplitName
    classes: tuple[str, ...]
    subjects: dict[str, SubjectScore]

    @property
    def mean(self) -> MeanScore:
        return summarise(list(self.subjects.values()))

    def to_json(self, run: str) -> dict[str, Any]:
        """The form that ``evaluate --json`` prints; NaN still in it."""
        return {
            "run": run,
            "split": self.split,
            "classes": list(self.classes),
            "subjects": [{"id": id, **score.to_json()} for id, score in self.subjects.items()],
            "mean": self.mean.to_json(),
        }


def choose_subjects(
    dataset: Dataset, description: Description, split: SplitName | None
) -> tuple[SplitName, tuple[str, ...]]:
    """The split and the ids of its labelled subjects, by the roles that the checkpoint remembers.

    ``None`` chooses the test subjects, or where none were set aside those for validation.

    Raises
    ------
    DatasetError
        If there is no labelled subject to score.
    """
    roles = description.split
    if split is None:
        split = "test" if roles.get("test") else "val"
    labelled = dataset.labelled_ids
    if split == "all":
        ids = labelled
    else:
        listed = roles.get(split, [])
        if not listed:
            raise DatasetError(f"split: expected subjects in the split {split}, but this run has none; choose another")
        ids = tuple(id for id in labelled if id in listed)
        gone = [id for id in listed if id not in ids]
        if gone:
            raise DatasetError(
                f"{dataset.path}: expected the run's {split} subjects with labels, found no {shortened(gone)}; "
                "for another data set than the run's use --split all"
            )
    if not ids:
        raise DatasetError(f"{dataset.path}: expected labelled subjects to score, found none")
    return split, ids


def evaluate(
    segmenter: Segmenter, dataset: Dataset, split: SplitName | None = None, progress: Progress | None = None
) -> Evaluation:
    """Segment and score every subject of a split.

    Parameters
    ----------
    split : by the roles that the checkpoint remembers; "all" takes every labelled subject; ``None``: the test subjects,
        or those for validation where no test subjects were set aside.
    progress : called with (subjects done, subjects, id of the one at work).

    Raises
    ------
    DatasetError
        If the data set lacks a modality, a class or the subjects that are asked for.
    VolumeError
        If a file cannot be read.
    DeviceError
        If the memory does not suffice.
    """
    split, ids = choose_subjects(dataset, segmenter.description, split)
    names = segmenter.labels.names
    lacking = [name for name in names[1:] if name not in dataset.labels.names]
    if lacking:
        raise DatasetError(
            f"{dataset.path}: expected labels of {', '.join(names[1:])}, which the network knows; this data set has "
            f"no {', '.join(lacking)}"
        )
    to_network = class_mapping(dataset.labels.names, names)
    scores: dict[str, SubjectScore] = {}
    for number, id in enumerate(ids):
        if progress is not None:
            progress(number, len(ids), id)
        scores[id] = _score(segmenter, dataset, id, to_network)
    if progress is not None:
        progress(len(ids), len(ids), "")
    return Evaluation(split, names[1:], scores)


def _score(segmenter: Segmenter, dataset: Dataset, id: str, to_network: np.ndarray) -> SubjectScore:
    loaded = load_subject(dataset, id, segmenter.modalities)
    assert loaded.label is not None, "only labelled subjects are chosen"
    spacing = loaded.geometry.spacing_mm
    prediction = segmenter.segment(loaded.image, spacing)
    return score_subject(to_network[loaded.label], prediction, spacing, segmenter.labels.names)
