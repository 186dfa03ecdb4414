"""Evaluation of a trained network: subjects of a split, classes by name, scores on the subject's grid."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.datasets import LoadedSubject, load_subject, open_dataset
from core.errors import DatasetError
from core.evaluation.evaluate import evaluate, split_subjects_of
from core.evaluation.metrics import SubjectScore, score_subject
from core.inference.predictor import Predictor
from tests.support.balls import write_balls

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


def test_scores_are_computed_on_each_subjects_own_grid(ball_run: BallRun) -> None:
    predictor, dataset = Predictor(ball_run.checkpoint), open_dataset(ball_run.data)
    calls: list[tuple[float, int, str]] = []
    evaluation = evaluate(predictor, dataset, "all", lambda n, of, id: calls.append((n, of, id)))
    assert evaluation.classes == ("bright", "dark") and list(evaluation.subjects) == list(dataset.ids)
    assert calls[0] == (0, 6, "ball_0") and calls[-1] == (6, 6, "")
    loaded = load_subject(dataset, "ball_3")
    assert loaded.label is not None
    prediction = predictor.segment(loaded.image, loaded.geometry.spacing_mm)
    expected = score_subject(loaded.label, prediction, (1.0, 1.0, 1.5), ("background", "bright", "dark"))
    assert evaluation.subjects["ball_3"] == expected
    assert evaluation.mean.mean_dice > 0.8
    by_hand = np.mean([score.dice["bright"] for score in evaluation.subjects.values()])
    assert evaluation.mean.dice["bright"] == pytest.approx(by_hand)


def test_split_is_the_one_stored_in_the_checkpoint(ball_run: BallRun) -> None:
    dataset = open_dataset(ball_run.data)
    metadata = Predictor(ball_run.checkpoint).metadata
    val, train = tuple(metadata.split["val"]), tuple(metadata.split["train"])
    assert split_subjects_of(dataset, metadata, None) == ("val", val)
    assert split_subjects_of(dataset, metadata, "train") == ("train", train)
    with_test = replace(metadata, split={"train": list(train), "val": [], "test": list(val)})
    assert split_subjects_of(dataset, with_test, None) == ("test", val)
    with pytest.raises(DatasetError, match="split test"):
        split_subjects_of(dataset, metadata, "test")
    elsewhere = replace(metadata, split={"val": ["another-1"]})
    with pytest.raises(DatasetError, match=r"found no another-1; .* --split all"):
        split_subjects_of(dataset, elsewhere, "val")


def test_classes_are_matched_by_name(ball_run: BallRun, tmp_path: Path) -> None:
    data = write_balls(tmp_path / "renamed")
    content = json.loads((data / "dataset.json").read_text())
    content["labels"] = {"0": "background", "1": "bright", "2": "dark", "3": "extra"}
    (data / "dataset.json").write_text(json.dumps(content))
    predictor = Predictor(ball_run.checkpoint)
    again = evaluate(predictor, open_dataset(data), "all")
    assert again.mean.dice == evaluate(predictor, open_dataset(ball_run.data), "all").mean.dice
    content["labels"] = {"0": "background", "1": "dark", "2": "bright"}
    (data / "dataset.json").write_text(json.dumps(content))
    assert evaluate(predictor, open_dataset(data), "all").mean.dice["bright"] < 0.2, "the names are swapped"
    content["labels"] = {"0": "background", "1": "bright", "2": "something else"}
    (data / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="no dark"):
        evaluate(predictor, open_dataset(data), "all")


def test_missed_classes_are_counted(ball_run: BallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(ball_run.checkpoint)
    monkeypatch.setattr(predictor, "segment", lambda image, spacing, progress=None: np.zeros(image.shape[1:], np.uint8))
    evaluation = evaluate(predictor, open_dataset(ball_run.data), "val")
    assert all(score.missed == ("bright", "dark") for score in evaluation.subjects.values())
    mean = evaluation.mean
    assert mean.dice == {"bright": 0.0, "dark": 0.0} and mean.missed == {"bright": 2, "dark": 2}
    assert all(math.isnan(v) for v in mean.hd95_mm.values())


def test_subjects_by_id_are_scored_and_passed_to_the_callback(ball_run: BallRun) -> None:
    predictor, dataset = Predictor(ball_run.checkpoint), open_dataset(ball_run.data)
    kept: dict[str, tuple[np.ndarray, object]] = {}
    calls: list[tuple[float, int, str]] = []

    def keep(loaded: LoadedSubject, prediction: np.ndarray, score: SubjectScore | None) -> None:
        kept[loaded.id] = prediction, score

    chosen = ("ball_4", "ball_1", "ball_4")
    evaluation = evaluate(
        predictor, dataset, None, lambda n, of, id: calls.append((n, of, id)), subjects=chosen, on_prediction=keep
    )
    assert (evaluation.split, list(evaluation.subjects), evaluation.unscored) == ("chosen", ["ball_4", "ball_1"], ())
    loaded = load_subject(dataset, "ball_1")
    np.testing.assert_array_equal(kept["ball_1"][0], predictor.segment(loaded.image, loaded.geometry.spacing_mm))
    assert kept["ball_1"][1] == evaluation.subjects["ball_1"]
    steps = [n for n, of, _ in calls]
    assert steps == sorted(steps) and {of for _, of, _ in calls} == {2}
    assert len([n for n in steps if 0 < n < 1]) > 2, "progress within one subject"


def test_unlabelled_subject_is_predicted_without_a_score(ball_run: BallRun, tmp_path: Path) -> None:
    data = write_balls(tmp_path / "data", 2)
    content = json.loads((data / "dataset.json").read_text())
    del content["training"][1]["label"]
    (data / "dataset.json").write_text(json.dumps(content))
    predictor, dataset = Predictor(ball_run.checkpoint), open_dataset(data)
    unlabelled = next(id for id in dataset.ids if id not in dataset.labelled_ids)
    with pytest.raises(DatasetError, match=f"label to score {unlabelled} .*--keep"):
        evaluate(predictor, dataset, subjects=[unlabelled])
    scores: list[SubjectScore | None] = []
    evaluation = evaluate(
        predictor,
        dataset,
        subjects=["ball_0", unlabelled],
        on_prediction=lambda loaded, prediction, score: scores.append(score),
    )
    assert scores == [evaluation.subjects["ball_0"], None] and evaluation.unscored == (unlabelled,)
    content["labels"] = {"0": "background", "1": "other"}  # classes are not compared without a label
    (data / "dataset.json").write_text(json.dumps(content))
    assert evaluate(predictor, open_dataset(data), subjects=[unlabelled], on_prediction=lambda *_: None).subjects == {}
    with pytest.raises(DatasetError, match="got 'nobody'"):
        evaluate(predictor, dataset, subjects=["nobody"])
