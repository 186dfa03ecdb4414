"""Scores of a trained network: which subjects, which classes, on which grid."""

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
from core.evaluation.evaluate import choose_subjects, evaluate
from core.evaluation.metrics import SubjectScore, score_subject
from core.inference.predictor import Predictor
from tests.support.balls import write_balls

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


def test_scores_are_those_of_the_segmentation_on_each_subjects_grid(ball_run: BallRun) -> None:
    segmenter, dataset = Predictor(ball_run.checkpoint), open_dataset(ball_run.data)
    told: list[tuple[float, int, str]] = []
    found = evaluate(segmenter, dataset, "all", lambda n, of, id: told.append((n, of, id)))
    assert found.classes == ("bright", "dark") and list(found.subjects) == list(dataset.ids)
    assert told[0] == (0, 6, "ball_0") and told[-1] == (6, 6, "")
    loaded = load_subject(dataset, "ball_3")
    assert loaded.label is not None
    prediction = segmenter.segment(loaded.image, loaded.geometry.spacing_mm)
    expected = score_subject(loaded.label, prediction, (1.0, 1.0, 1.5), ("background", "bright", "dark"))
    assert found.subjects["ball_3"] == expected
    assert found.mean.mean_dice > 0.8
    by_hand = np.mean([score.dice["bright"] for score in found.subjects.values()])
    assert found.mean.dice["bright"] == pytest.approx(by_hand)


def test_roles_come_from_the_checkpoint(ball_run: BallRun) -> None:
    dataset = open_dataset(ball_run.data)
    description = Predictor(ball_run.checkpoint).description
    val, train = tuple(description.split["val"]), tuple(description.split["train"])
    assert choose_subjects(dataset, description, None) == ("val", val)
    assert choose_subjects(dataset, description, "train") == ("train", train)
    with_test = replace(description, split={"train": list(train), "val": [], "test": list(val)})
    assert choose_subjects(dataset, with_test, None) == ("test", val)
    with pytest.raises(DatasetError, match="expected subjects in the split test, but this run has none"):
        choose_subjects(dataset, description, "test")
    elsewhere = replace(description, split={"val": ["another-1"]})
    with pytest.raises(DatasetError, match=r"found no another-1; for another data set .* --split all"):
        choose_subjects(dataset, elsewhere, "val")


def test_labels_of_another_data_set_are_matched_by_name(ball_run: BallRun, tmp_path: Path) -> None:
    data = write_balls(tmp_path / "renamed")
    content = json.loads((data / "dataset.json").read_text())
    content["labels"] = {"0": "background", "1": "bright", "2": "dark", "3": "extra"}
    (data / "dataset.json").write_text(json.dumps(content))
    segmenter = Predictor(ball_run.checkpoint)
    again = evaluate(segmenter, open_dataset(data), "all")
    assert again.mean.dice == evaluate(segmenter, open_dataset(ball_run.data), "all").mean.dice
    content["labels"] = {"0": "background", "1": "dark", "2": "bright"}
    (data / "dataset.json").write_text(json.dumps(content))
    assert evaluate(segmenter, open_dataset(data), "all").mean.dice["bright"] < 0.2, "the names are swapped"
    content["labels"] = {"0": "background", "1": "bright", "2": "something else"}
    (data / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="this data set has no dark"):
        evaluate(segmenter, open_dataset(data), "all")


def test_a_class_that_is_missed_is_counted(ball_run: BallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = Predictor(ball_run.checkpoint)
    monkeypatch.setattr(segmenter, "segment", lambda image, spacing, progress=None: np.zeros(image.shape[1:], np.uint8))
    found = evaluate(segmenter, open_dataset(ball_run.data), "val")
    assert all(score.missed == ("bright", "dark") for score in found.subjects.values())
    mean = found.mean
    assert mean.dice == {"bright": 0.0, "dark": 0.0} and mean.missed == {"bright": 2, "dark": 2}
    assert all(math.isnan(v) for v in mean.hd95_mm.values())


def test_named_subjects_are_scored_and_handed_out(ball_run: BallRun) -> None:
    segmenter, dataset = Predictor(ball_run.checkpoint), open_dataset(ball_run.data)
    kept: dict[str, tuple[np.ndarray, object]] = {}
    told: list[tuple[float, int, str]] = []

    def keep(loaded: LoadedSubject, prediction: np.ndarray, score: SubjectScore | None) -> None:
        kept[loaded.id] = prediction, score

    chosen = ("ball_4", "ball_1", "ball_4")
    found = evaluate(segmenter, dataset, None, lambda n, of, id: told.append((n, of, id)), subjects=chosen, keep=keep)
    assert (found.split, list(found.subjects), found.unscored) == ("chosen", ["ball_4", "ball_1"], ())
    loaded = load_subject(dataset, "ball_1")
    np.testing.assert_array_equal(kept["ball_1"][0], segmenter.segment(loaded.image, loaded.geometry.spacing_mm))
    assert kept["ball_1"][1] == found.subjects["ball_1"]
    steps = [n for n, of, _ in told]
    assert steps == sorted(steps) and {of for _, of, _ in told} == {2}
    assert len([n for n in steps if 0 < n < 1]) > 2, "it moves within one subject"


def test_a_subject_without_label_is_kept_without_a_score(ball_run: BallRun, tmp_path: Path) -> None:
    data = write_balls(tmp_path / "data", 2)
    content = json.loads((data / "dataset.json").read_text())
    del content["training"][1]["label"]
    (data / "dataset.json").write_text(json.dumps(content))
    segmenter, dataset = Predictor(ball_run.checkpoint), open_dataset(data)
    unlabelled = next(id for id in dataset.ids if id not in dataset.labelled_ids)
    with pytest.raises(DatasetError, match=f"expected a label to score {unlabelled} with, found none.*--keep"):
        evaluate(segmenter, dataset, subjects=[unlabelled])
    scores: list[SubjectScore | None] = []
    found = evaluate(
        segmenter, dataset, subjects=["ball_0", unlabelled], keep=lambda loaded, found, score: scores.append(score)
    )
    assert scores == [found.subjects["ball_0"], None] and found.unscored == (unlabelled,)
    content["labels"] = {"0": "background", "1": "other"}  # what the network knows does not matter without a label
    (data / "dataset.json").write_text(json.dumps(content))
    assert evaluate(segmenter, open_dataset(data), subjects=[unlabelled], keep=lambda *_: None).subjects == {}
    with pytest.raises(DatasetError, match=r"expected one of the subjects .* got 'nobody'"):
        evaluate(segmenter, dataset, subjects=["nobody"])
