"""Scores a trained network on subjects of a data set, in whole volumes on each subject's own grid; hands out what it
segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.checkpointing.metadata import Description
from core.datasets import Dataset, LoadedSubject, load_subject
from core.datasets.layouts.base import shortened
from core.datasets.loading import class_mapping
from core.errors import DatasetError
from core.evaluation.metrics import MeanScore, SubjectScore, score_subject, summarise
from core.inference.predictor import Predictor

SplitName = Literal["test", "val", "train", "all"]
SPLITS: tuple[SplitName, ...] = ("test", "val", "train", "all")
CHOSEN = "chosen"  # the split's name where subjects were named one by one
Progress = Callable[[float, int, str], None]
Keep = Callable[[LoadedSubject, np.ndarray, SubjectScore | None], None]
READ, SEGMENTED = 0.05, 0.9  # shares of the work on one subject that are done by then; scoring is the rest


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes
    ----------
    split : the split, or "chosen" where subjects were named one by one.
    classes : names without the background.
    subjects : scores by subject id.
    unscored : ids of subjects that were segmented and have no label to score them with.
    """

    split: str
    classes: tuple[str, ...]
    subjects: dict[str, SubjectScore]
    unscored: tuple[str, ...] = ()

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
            "unscored": list(self.unscored),
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
    segmenter: Predictor,
    dataset: Dataset,
    split: SplitName | None = None,
    progress: Progress | None = None,
    *,
    subjects: Sequence[str] = (),
    keep: Keep | None = None,
) -> Evaluation:
    """Segment and score every subject of a split.

    Parameters
    ----------
    split : by the roles that the checkpoint remembers; "all" takes every labelled subject; ``None``: the test subjects,
        or those for validation where no test subjects were set aside.
    progress : called with (subjects done, subjects, id of the one at work); done has a fraction while one is at work.
    subjects : ids, instead of a split.
    keep : called with each subject as it was read, its segmentation (class indices, uint8, (i, j, k)) and its score.
        With it, named subjects may lack a label: they are segmented, and their score is ``None``.

    Raises
    ------
    DatasetError
        If the data set lacks a modality, a class or the subjects that are asked for, or a subject has no label.
    VolumeError
        If a file cannot be read.
    DeviceError
        If the memory does not suffice.
    """
    shown: str = CHOSEN
    if subjects:
        ids = _named(dataset, subjects, keep is not None)
    else:
        shown, ids = choose_subjects(dataset, segmenter.description, split)
    names = segmenter.labels.names
    labelled = set(dataset.labelled_ids)
    lacking = [name for name in names[1:] if name not in dataset.labels.names]
    if lacking and not labelled.isdisjoint(ids):
        raise DatasetError(
            f"{dataset.path}: expected labels of {', '.join(names[1:])}, which the network knows; this data set has "
            f"no {', '.join(lacking)}"
        )
    to_network = class_mapping(dataset.labels.names, names)
    scores: dict[str, SubjectScore] = {}
    for number, id in enumerate(ids):

        def show(share: float, number: int = number, id: str = id) -> None:
            if progress is not None:
                progress(number + share, len(ids), id)

        score = _segment_and_score(segmenter, dataset, id, to_network, show, keep)
        if score is not None:
            scores[id] = score
    if progress is not None:
        progress(len(ids), len(ids), "")
    return Evaluation(shown, names[1:], scores, tuple(id for id in ids if id not in scores))


def _named(dataset: Dataset, ids: Sequence[str], may_lack_label: bool) -> tuple[str, ...]:
    """The ids, each once.

    Raises
    ------
    DatasetError
        If there is no such subject, or one has no label and needs it.
    """
    ids = tuple(dict.fromkeys(ids))
    without = [id for id in ids if dataset.subject(id).label is None]
    if without and not may_lack_label:
        raise DatasetError(
            f"{dataset.path}: expected a label to score {shortened(without)} with, found none; choose other subjects, "
            "or keep the segmentations (--keep), which needs no label"
        )
    return ids


def _segment_and_score(
    segmenter: Predictor,
    dataset: Dataset,
    id: str,
    to_network: np.ndarray,
    show: Callable[[float], None],
    keep: Keep | None,
) -> SubjectScore | None:
    show(0)
    loaded = load_subject(dataset, id, segmenter.modalities)
    show(READ)
    spacing = loaded.geometry.spacing_mm
    prediction = segmenter.segment(
        loaded.image, spacing, lambda done, tiles: show(READ + (SEGMENTED - READ) * done / tiles)
    )
    score = None
    if loaded.label is not None:
        score = score_subject(to_network[loaded.label], prediction, spacing, segmenter.labels.names)
    if keep is not None:
        keep(loaded, prediction, score)
    return score
