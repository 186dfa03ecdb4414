"""Segments and scores subjects of a data set as whole volumes, each on its own grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from core.checkpointing.ensemble_metadata import is_ensemble
from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import Dataset, LoadedSubject, load_subject
from core.datasets.data_record import DataRecord
from core.datasets.loading import class_mapping
from core.errors import DatasetError
from core.evaluation.metrics import MeanScore, ScoredNames, SubjectScore, score_subject, summarise
from core.evaluation.subject_prediction import SubjectPrediction
from core.formatting import format_list
from core.inference.overflow import NonFiniteLogitsError
from core.inference.predictor import Predictor, Segmentation
from core.inference.subject_image import SubjectImage
from core.types import TextProgressCallback

SplitName = Literal["test", "val", "train", "all"]
SPLITS: tuple[SplitName, ...] = ("test", "val", "train", "all")
CHOSEN = "chosen"  # split name of an evaluation of subjects given by id
PredictionCallback = Callable[[SubjectPrediction], None]
LOADED_FRACTION, SEGMENTED_FRACTION = 0.05, 0.9  # of the work on one subject; the rest is scoring


@dataclass(frozen=True)
class Evaluation:
    """Result of :func:`evaluate`.

    Attributes
    ----------
    split : str. Name of the split, or "chosen" for subjects given by id.
    classes : tuple of str. Class names without the background, then unions of classes that are scored.
    subjects : dict. Score by subject id.
    unscored : tuple of str. Ids of segmented subjects that have no label.
    warnings : dict. By subject id, reasons why its prediction may be wrong; only subjects with any.
    unprocessed : dict. Score without the postprocessing by subject id; empty where the model has none.
    trained_on : tuple of str. Ids of the subjects that the network, or one of an ensemble, was trained on; of another
        data set than that of the training only where a split of the run is scored.
    may_be_trained_on : tuple of str. Ids of other subjects that are those of training subjects in a folder that the
        checkpoint does not name.
    """

    split: str
    classes: tuple[str, ...]
    subjects: dict[str, SubjectScore]
    unscored: tuple[str, ...] = ()
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unprocessed: dict[str, SubjectScore] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()
    may_be_trained_on: tuple[str, ...] = ()

    @property
    def unprocessed_mean(self) -> MeanScore | None:
        """Mean without the postprocessing; ``None`` where the model has none."""
        return summarise(list(self.unprocessed.values())) if self.unprocessed else None

    @property
    def mean(self) -> MeanScore:
        """Mean over the scored subjects."""
        return summarise(list(self.subjects.values()))

    def to_json(self, run: str) -> dict[str, Any]:
        """The format of ``evaluate --json``; NaN is not replaced."""
        unprocessed = self.unprocessed_mean
        return {
            "run": run,
            "split": self.split,
            "classes": list(self.classes),
            "subjects": [{"id": id, **score.to_json()} for id, score in self.subjects.items()],
            "mean": self.mean.to_json(),
            "mean_without_postprocessing": None if unprocessed is None else unprocessed.to_json(),
            "unscored": list(self.unscored),
            "trained_on": list(self.trained_on),
            "may_be_trained_on": list(self.may_be_trained_on),
            "warnings": {id: list(texts) for id, texts in self.warnings.items()},
        }


def split_subjects_of(
    dataset: Dataset, metadata: CheckpointMetadata, split: SplitName | None
) -> tuple[SplitName, tuple[str, ...]]:
    """Name of a split and ids of its labelled subjects, by the split that the checkpoint stores.

    ``None`` is the test split, or the validation split where the run has no test subjects.

    Raises
    ------
    DatasetError
        If the split has no labelled subject, or one is missing from the data set.
    """
    stored = metadata.split
    if split is None:
        split = "test" if stored.get("test") else "val"
    labelled = dataset.labelled_ids
    if split == "all":
        ids = labelled
    else:
        listed = stored.get(split, [])
        if not listed and is_ensemble(metadata):
            raise DatasetError(
                "split: expected subjects that no network of the ensemble was trained on, but each of them was used by "
                "one or the other; score its runs, or the ensemble on other data, with --split all"
            )
        if split == "val" and not listed and metadata.train_config.split.holds_out_nothing:
            advice = "; score it on data that it has not seen, with --split all"
            if tested := stored.get("test"):
                advice = f" but its test subjects; score it on those, with --split test ({format_list(tested)})"
            raise DatasetError(
                f"split: expected held-out subjects, but this network was trained on every subject{advice}"
            )
        if not listed:
            raise DatasetError(f"split: expected subjects in the split {split}, but this run has none; choose another")
        ids = tuple(id for id in labelled if id in listed)
        missing = [id for id in listed if id not in ids]
        if missing:
            raise DatasetError(
                f"{dataset.path}: expected the run's {split} subjects with labels, found no {format_list(missing)}; "
                "for another data set than the run's use --split all"
            )
    if not ids:
        raise DatasetError(f"{dataset.path}: expected labelled subjects to score, found none")
    return split, ids


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    split: SplitName | None = None,
    progress: TextProgressCallback | None = None,
    *,
    subjects: Sequence[str] = (),
    on_prediction: PredictionCallback | None = None,
) -> Evaluation:
    """Segment and score the subjects of a split, or those given by id.

    Parameters
    ----------
    predictor : Predictor. The network.
    dataset : Dataset. Images and labels.
    split : str, optional. Split stored in the checkpoint; "all" is every labelled subject. Default: the test split, or
        the validation split where there are no test subjects.
    progress : callable, optional. Called with (subjects done, total subjects, id of the current subject); subjects done
        is fractional during a subject.
    subjects : sequence of str. Subject ids, instead of a split.
    on_prediction : callable, optional. Called with the prediction of each subject. With it, subjects given by id need
        no label; their score is ``None``.

    Raises
    ------
    DatasetError
        If the data set lacks a modality, a class or a subject, or a subject has no label.
    VolumeError
        If a file cannot be read.
    DeviceError
        If the memory does not suffice.
    """
    name: str = CHOSEN
    if subjects:
        ids = _checked_ids(dataset, subjects, label_required=on_prediction is None)
    else:
        name, ids = split_subjects_of(dataset, predictor.metadata, split)
    classes = predictor.labels.names
    missing_classes = [c for c in classes[1:] if c not in dataset.labels.names]
    if missing_classes and not set(dataset.labelled_ids).isdisjoint(ids):
        raise DatasetError(
            f"{dataset.path}: expected labels of the network's classes {', '.join(classes[1:])}; this data set has "
            f"no {', '.join(missing_classes)}"
        )
    regions, scored = predictor.metadata.regions, ScoredNames.of_checkpoint(predictor.metadata)
    in_mean = () if scored.in_mean == scored.names else scored.in_mean
    to_network = class_mapping(dataset.labels.names, classes)
    record = _record_of_training(predictor, dataset, name)
    scores: dict[str, SubjectScore] = {}
    unprocessed_scores: dict[str, SubjectScore] = {}
    warnings: dict[str, tuple[str, ...]] = {}
    for number, id in enumerate(ids):

        def show(fraction: float, number: int = number, id: str = id) -> None:
            if progress is not None:
                progress(number + fraction, len(ids), id)

        loaded, segmentation = _segment_subject(predictor, dataset, id, show)
        unprocessed = segmentation.labels
        prediction = predictor.postprocess(unprocessed, loaded.geometry.voxel_ml)
        score = unprocessed_score = None
        if loaded.label is not None:
            truth, axes_mm = to_network[loaded.label], loaded.geometry.axes_mm
            score = scores[id] = score_subject(truth, prediction, axes_mm, classes, regions, in_mean)
            if predictor.postprocessing:
                unprocessed_score = score_subject(truth, unprocessed, axes_mm, classes, regions, in_mean)
                unprocessed_scores[id] = unprocessed_score
        found = predictor.warnings(loaded)
        if record is not None:
            label = None if loaded.label is None else to_network[loaded.label]
            now = replace(loaded, label=label)
            found += record.subject_warnings(dataset, now, predictor.labels)
        if found:
            warnings[id] = found
        if on_prediction is not None:
            result = SubjectPrediction(loaded, prediction, score, found, predictor.settings(), unprocessed_score)
            on_prediction(replace(result, disagreement=segmentation.disagreement, maps=segmentation.maps))
    if progress is not None:
        progress(len(ids), len(ids), "")
    unscored = tuple(id for id in ids if id not in scores)
    trained_on = ids if name == "train" else predictor.metadata.seen_in_training(dataset.path, ids)
    perhaps = [] if name == "train" else predictor.metadata.may_be_seen_in_training(dataset.path, ids)
    return Evaluation(
        name, scored.names, scores, unscored, warnings, unprocessed_scores, tuple(trained_on), tuple(perhaps)
    )


def _record_of_training(predictor: Predictor, dataset: Dataset, split: str) -> DataRecord | None:
    """The record of the run's data, if the data set is taken to be the run's: by its folder, or because a split is
    scored."""
    if split in (CHOSEN, "all") and not predictor.metadata.is_training_data(dataset.path):
        return None
    return DataRecord.load_or_none(predictor.path.parent)


def _checked_ids(dataset: Dataset, ids: Sequence[str], label_required: bool) -> tuple[str, ...]:
    """The ids without duplicates.

    Raises
    ------
    DatasetError
        If a subject does not exist, or has no label and needs one.
    """
    ids = tuple(dict.fromkeys(ids))
    unlabelled = [id for id in ids if dataset.subject(id).label is None]
    if unlabelled and label_required:
        raise DatasetError(
            f"{dataset.path}: expected a label to score {format_list(unlabelled)} with, found none; choose other "
            "subjects, or keep the segmentations (--keep), which needs no label"
        )
    return ids


def _segment_subject(
    predictor: Predictor, dataset: Dataset, id: str, show: Callable[[float], None]
) -> tuple[LoadedSubject, Segmentation]:
    """A subject and its segmentation; ``show`` is called with the fraction done."""
    show(0)
    loaded = load_subject(dataset, id, predictor.modalities)
    show(LOADED_FRACTION)
    step = SEGMENTED_FRACTION - LOADED_FRACTION
    try:
        segmentation = predictor.segment_in_detail(
            SubjectImage.of(loaded), lambda done, total: show(LOADED_FRACTION + step * done / total)
        )
    except NonFiniteLogitsError as error:
        raise NonFiniteLogitsError(f"{id}: {error}") from error
    return loaded, segmentation
