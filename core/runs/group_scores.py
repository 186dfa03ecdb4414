"""Scores of a cross-validation: every subject by the run that had not seen it, with mean and spread per class.

They are those of the kept predictions on whole volumes (:mod:`core.runs.predictions`) by the checkpoint that each run
predicts with, without postprocessing, which is chosen by the same subjects. A subject without an up-to-date prediction
is listed as missing and counts in no figure. What makes a score differ from those of the others is a warning.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Any, Literal

from core.checkpointing.metadata import CheckpointMetadata, may_be_training_subjects, read_metadata
from core.datasets.layouts.base import natural_key
from core.errors import UserError
from core.evaluation.metrics import MeanScore, ScoredNames, SubjectScore, nan_mean
from core.evaluation.metrics import summarise as mean_score
from core.formatting import format_count, format_list
from core.runs.catalog import run_checkpoint
from core.runs.groups import GroupSummary
from core.runs.prediction_origin import OTHER_POSTPROCESSING
from core.runs.predictions import Prediction, read_predictions

Measure = Literal["dice", "hd95_mm", "asd_mm"]
MEASURES: tuple[Measure, ...] = ("dice", "hd95_mm", "asd_mm")
NOT_SEGMENTED = "not segmented yet"


@dataclass(frozen=True)
class HeldOutSubject:
    """A subject, and its score by the run that had not seen it.

    Attributes
    ----------
    id, run : str. Ids of the subject and of the run that held it out.
    score : SubjectScore or None. Of the whole volume; ``None`` where there is none.
    reason : str. Why there is none; empty where there is one.
    """

    id: str
    run: str
    score: SubjectScore | None
    reason: str = ""


@dataclass(frozen=True)
class Spread:
    """A mean over subjects and its spread; NaN where it is not defined.

    Attributes
    ----------
    mean : float. Mean over all held-out subjects.
    sd_subjects : float. Sample standard deviation over the subjects.
    sd_folds : float. Sample standard deviation over the means of the folds.
    n, folds : int. Number of subjects, and of folds, with a value.
    """

    mean: float
    sd_subjects: float
    sd_folds: float
    n: int
    folds: int


@dataclass(frozen=True)
class CrossValidation:
    """The scores of a group of folds.

    Attributes
    ----------
    classes : tuple of str. Class names without the background, then unions of classes that are scored; empty before
        there is a checkpoint.
    subjects : tuple of HeldOutSubject. Held-out subjects of the runs that have a checkpoint.
    waiting : dict. By id of each run whose held-out subjects are not known yet, the reason.
    in_mean : tuple of str. Those that count for the mean; empty for all.
    warnings : tuple of str. Why scores are too good, counted twice, or not made as the others are.
    """

    classes: tuple[str, ...]
    subjects: tuple[HeldOutSubject, ...]
    waiting: dict[str, str]
    in_mean: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def scored(self) -> list[HeldOutSubject]:
        """The subjects that have a score."""
        return [subject for subject in self.subjects if subject.score is not None]

    @property
    def missing(self) -> list[HeldOutSubject]:
        """The subjects that have none."""
        return [subject for subject in self.subjects if subject.score is None]

    @property
    def mean(self) -> MeanScore:
        """Mean over the scored subjects, with the number of missed structures."""
        return mean_score([subject.score for subject in self.subjects if subject.score is not None])

    def spread(self, name: str, measure: Measure = "dice") -> Spread:
        """Mean and spread of a measure for a class."""
        return self._spread([name], measure)

    def mean_spread(self, measure: Measure = "dice") -> Spread:
        """Mean over the classes, or regions, of their means, and the spread of the mean over them."""
        return self._spread(self.in_mean or self.classes, measure)

    def _spread(self, names: Sequence[str], measure: Measure) -> Spread:
        by_run: dict[str, list[list[float]]] = {}
        for subject in self.subjects:
            if subject.score is not None:
                values: dict[str, float] = getattr(subject.score, measure)
                by_run.setdefault(subject.run, []).append([values.get(name, math.nan) for name in names])
        rows = [row for rows in by_run.values() for row in rows]
        means = [nan_mean(row) for row in rows]
        folds = [_mean_of_columns(rows) for rows in by_run.values()]
        return Spread(_mean_of_columns(rows), _sd(means), _sd(folds), len(_finite(means)), len(_finite(folds)))

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is not replaced."""
        measures = MEASURES if self.scored else ()
        return {
            "measured_on": "whole volumes, each subject by the run that held it out",
            "classes": list(self.classes),
            **{measure: {name: vars(self.spread(name, measure)) for name in self.classes} for measure in measures},
            "mean": {measure: vars(self.mean_spread(measure)) for measure in measures},
            "missed": self.mean.missed if self.scored else {},
            "subjects": [
                {"id": s.id, "run": s.run, **({"reason": s.reason} if s.score is None else s.score.to_json())}
                for s in self.subjects
            ],
            "waiting": self.waiting,
            "warnings": list(self.warnings),
        }


def cross_validation(root: Path, summary: GroupSummary) -> CrossValidation:
    """Read the scores of a group; nothing is segmented."""
    names: ScoredNames | None = None
    subjects: list[HeldOutSubject] = []
    warnings: list[str] = []
    waiting = {member.run: "it has no run" for member in summary.missing}
    for run in summary.runs:
        checkpoint = run_checkpoint(run.folder)
        if checkpoint is None:
            waiting[run.id] = f"no checkpoint yet, it is {run.state.state}"
            continue
        try:
            metadata = read_metadata(checkpoint)
            predictions = read_predictions(root, checkpoint, Path(metadata.dataset["path"]))
        except UserError as error:
            waiting[run.id] = str(error)
            continue
        own = ScoredNames.of_checkpoint(metadata)
        names = names or own
        if own.in_mean != names.in_mean:
            waiting[run.id] = (
                f"expected a mean over {', '.join(names.in_mean)} as that of the other runs, got one over "
                f"{', '.join(own.in_mean)}; train it with the same --targets"
            )
            continue
        names = max(names, own, key=lambda scored: len(scored.names))  # an earlier version scored no unions
        held_out = metadata.split.get("val", [])
        for id in held_out:
            prediction = predictions.get(id)
            if prediction is None:
                subjects.append(HeldOutSubject(id, run.id, None, NOT_SEGMENTED))
            elif prediction.stale and prediction.stale_reason != OTHER_POSTPROCESSING:
                subjects.append(HeldOutSubject(id, run.id, None, f"segmented {prediction.stale_reason}"))
            else:
                subjects.append(HeldOutSubject(id, run.id, prediction.unprocessed_score or prediction.score))
        warnings += _other_settings(run.id, metadata, [predictions[id] for id in held_out if id in predictions])
        warnings += _seen_before(run.id, metadata, held_out)
    warnings += _repeated(subjects)
    ordered = tuple(sorted(subjects, key=lambda s: natural_key(s.id)))
    if names is None:
        return CrossValidation((), ordered, waiting, warnings=tuple(warnings))
    return CrossValidation(names.names, ordered, waiting, names.in_mean, tuple(warnings))


def _other_settings(run: str, metadata: CheckpointMetadata, predictions: Sequence[Prediction]) -> list[str]:
    """Subjects that were segmented in another way than the run segments by itself, as with ``evaluate --mirror``."""
    own = metadata.inference_settings
    own["resampled_mm"] = None if metadata.spacing_mm is None else list(metadata.spacing_mm)
    found: dict[str, list[str]] = {}
    for prediction in predictions:
        made = prediction.settings  # empty in records of earlier versions; a single pass has no overlap
        different = [
            f"{name} {str(made[name]).lower()}" for name, value in own.items() if made.get(name, value) != value
        ]
        if different:
            found.setdefault(", ".join(different), []).append(prediction.subject)
    return [
        f"{run}: {format_list(ids)}: segmented with other settings than its own ({settings}); segment again without "
        "them: evaluate, with --subject and --keep"
        for settings, ids in found.items()
    ]


def _seen_before(run: str, metadata: CheckpointMetadata, held_out: Sequence[str]) -> list[str]:
    """Held-out subjects that the initial network of a run was trained on, or may have been."""
    folder = Path(metadata.dataset["path"])
    seen, perhaps = metadata.seen_in_training(folder, held_out), metadata.may_be_seen_in_training(folder, held_out)
    some = f"{len(seen)} of its {format_count(len(held_out), 'held-out subject')} ({format_list(seen)})"
    text = f"{run}: the network that it began with (--init-from) was trained on {some}: their scores are too good"
    possible = f"{run}: {may_be_training_subjects('the network that it began with (--init-from)', perhaps)}"
    return [*([text] if seen else []), *([possible] if perhaps else [])]


def _repeated(subjects: Sequence[HeldOutSubject]) -> list[str]:
    """Subjects that several runs held out."""
    counts = Counter(subject.id for subject in subjects)
    twice = sorted((id for id, count in counts.items() if count > 1), key=natural_key)
    reason = "held out by several runs, and counted for each; the data set had other subjects when they began"
    return [f"{format_list(twice)}: {reason}"] if twice else []


def _mean_of_columns(rows: Sequence[Sequence[float]]) -> float:
    """Mean over the columns of their means, as :attr:`core.evaluation.metrics.MeanScore.mean_dice`."""
    return nan_mean(nan_mean(column) for column in zip(*rows, strict=True))


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _sd(values: Iterable[float]) -> float:
    """Sample standard deviation of the defined values; NaN for fewer than two."""
    known = _finite(values)
    return stdev(known) if len(known) > 1 else math.nan
