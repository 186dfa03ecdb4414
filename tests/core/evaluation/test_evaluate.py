"""Evaluation of a trained network: subjects of a split, classes by name, scores on the subject's grid."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from core.datasets import DataOptions, load_subject, open_dataset
from core.errors import DatasetError
from core.evaluation.evaluate import evaluate, split_subjects_of
from core.evaluation.metrics import SubjectScore, score_subject
from core.evaluation.subject_prediction import SubjectPrediction
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from core.labels import IGNORE_INDEX
from tests.support.balls import write_balls
from tests.support.ignored import SLAB, write_ignored_balls
from tests.support.volume_files import load

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


@pytest.mark.slow
def test_scores_are_computed_on_each_subjects_own_grid(ball_run: BallRun) -> None:
    predictor, dataset = Predictor(ball_run.checkpoint), open_dataset(ball_run.data)
    calls: list[tuple[float, int, str]] = []
    evaluation = evaluate(predictor, dataset, "all", lambda n, of, id: calls.append((n, of, id)))
    assert evaluation.classes == ("bright", "dark") and list(evaluation.subjects) == list(dataset.ids)
    assert calls[0] == (0, 6, "ball_0") and calls[-1] == (6, 6, "")
    loaded = load_subject(dataset, "ball_3")
    assert loaded.label is not None
    prediction = predictor.segment(SubjectImage.of(loaded))
    expected = score_subject(loaded.label, prediction, (1.0, 1.0, 1.5), ("background", "bright", "dark"))
    assert evaluation.subjects["ball_3"] == expected
    assert evaluation.mean.mean_dice > 0.8
    by_hand = np.mean([score.dice["bright"] for score in evaluation.subjects.values()])
    assert evaluation.mean.dice["bright"] == pytest.approx(by_hand)


@pytest.mark.slow
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
    ensemble = replace(metadata, version=2, split={"train": [*train, *val], "val": [], "test": []})
    with pytest.raises(DatasetError, match="no network of the ensemble was trained on"):
        split_subjects_of(dataset, ensemble, None)
    elsewhere = replace(metadata, split={"val": ["another-1"]})
    with pytest.raises(DatasetError, match=r"found no another-1; .* --split all"):
        split_subjects_of(dataset, elsewhere, "val")


@pytest.mark.slow
def test_classes_are_matched_by_name(ball_run: BallRun, tmp_path: Path) -> None:
    data = write_balls(tmp_path / "renamed")
    content = json.loads((data / "dataset.json").read_text())
    content["labels"] = {"0": "background", "1": "bright", "2": "dark", "3": "extra"}
    (data / "dataset.json").write_text(json.dumps(content))
    predictor, two = Predictor(ball_run.checkpoint), ("ball_0", "ball_1")
    again = evaluate(predictor, open_dataset(data), subjects=two)
    assert again.mean.dice == evaluate(predictor, open_dataset(ball_run.data), subjects=two).mean.dice
    content["labels"] = {"0": "background", "1": "dark", "2": "bright"}
    (data / "dataset.json").write_text(json.dumps(content))
    assert evaluate(predictor, open_dataset(data), subjects=two).mean.dice["bright"] < 0.2, "the names are swapped"
    content["labels"] = {"0": "background", "1": "bright", "2": "something else"}
    (data / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="no dark"):
        evaluate(predictor, open_dataset(data), "all")


def test_missed_classes_are_counted(ball_run: BallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(ball_run.checkpoint)
    monkeypatch.setattr(predictor, "segment_unprocessed", lambda image, *_: np.zeros(image.shape, np.uint8))
    evaluation = evaluate(predictor, open_dataset(ball_run.data), "val")
    assert all(score.missed == ("bright", "dark") for score in evaluation.subjects.values())
    mean = evaluation.mean
    assert mean.dice == {"bright": 0.0, "dark": 0.0} and mean.missed == {"bright": 2, "dark": 2}
    assert all(math.isnan(v) for v in mean.hd95_mm.values())


def test_volumes_and_distances_follow_the_unit_and_the_shear_of_the_files(
    ball_run: BallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_balls(tmp_path / "tilted", subjects=1, flipped=False)
    affine = np.diag([10.0, 10, 15, 1])
    affine[1, 2] = 15 * np.tan(np.deg2rad(30))
    for part in ("imagesTr", "labelsTr"):
        image = nib.Nifti1Image(np.asarray(load(folder / part / "ball_0.nii.gz").dataobj), affine)
        image.header.set_xyzt_units("micron")
        nib.save(image, folder / part / "ball_0.nii.gz")
    dataset = open_dataset(folder)
    truth = load_subject(dataset, "ball_0").label
    assert truth is not None
    predictor = Predictor(ball_run.checkpoint)
    monkeypatch.setattr(predictor, "segment_unprocessed", lambda *_: np.roll(truth, 3, axis=2))
    score = evaluate(predictor, dataset, subjects=["ball_0"]).subjects["ball_0"]
    assert score.volume_ml["bright"]["truth"] == pytest.approx((truth == 1).sum() * 1.5e-6 / 1000)
    points = [
        np.argwhere(m & ~ndimage.binary_erosion(m)) @ affine[:3, :3].T / 1000
        for m in (truth == 1, np.roll(truth == 1, 3, axis=2))
    ]
    pairs = cdist(*points)
    expected_mm = max(np.percentile(pairs.min(axis=axis), 95) for axis in (0, 1))
    assert score.hd95_mm["bright"] == pytest.approx(expected_mm, rel=1e-5)


@pytest.mark.slow
def test_subjects_by_id_are_scored_and_passed_to_the_callback(ball_run: BallRun) -> None:
    predictor, dataset = Predictor(ball_run.checkpoint), open_dataset(ball_run.data)
    kept: dict[str, tuple[np.ndarray, object]] = {}
    calls: list[tuple[float, int, str]] = []

    def keep(result: SubjectPrediction) -> None:
        kept[result.subject.id] = result.prediction, result.score

    chosen = ("ball_4", "ball_1", "ball_4")
    evaluation = evaluate(
        predictor, dataset, None, lambda n, of, id: calls.append((n, of, id)), subjects=chosen, on_prediction=keep
    )
    assert (evaluation.split, list(evaluation.subjects), evaluation.unscored) == ("chosen", ["ball_4", "ball_1"], ())
    loaded = load_subject(dataset, "ball_1")
    np.testing.assert_array_equal(kept["ball_1"][0], predictor.segment(SubjectImage.of(loaded)))
    assert kept["ball_1"][1] == evaluation.subjects["ball_1"]
    steps = [n for n, of, _ in calls]
    assert steps == sorted(steps) and {of for _, of, _ in calls} == {2}
    assert len([n for n in steps if 0 < n < 1]) > 2, "progress within one subject"


def scale_affine(path: Path, factor: float) -> None:
    image = load(path)
    affine = image.affine * np.array([factor, factor, factor, 1])[:, None]
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


@pytest.mark.long
def test_warnings_name_other_voxel_sizes_and_changes_since_training(ball_run: BallRun, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(ball_run.data, data)
    for part in ("imagesTr", "labelsTr"):
        scale_affine(data / part / "ball_0.nii.gz", 3)
    predictor = Predictor(ball_run.checkpoint)
    evaluation = evaluate(predictor, open_dataset(data), "all")
    assert list(evaluation.warnings) == ["ball_0"], "another folder than that of training: its subjects are others"
    (warning,) = evaluation.warnings["ball_0"]
    assert "the voxels are 3 x 3 x 4.5 mm, those of training 1 x 1 x 1.5 mm" in warning
    role = next(name for name, ids in predictor.metadata.split.items() if "ball_0" in ids)
    of_role = evaluate(predictor, open_dataset(data), role)  # type: ignore[arg-type]
    found = of_role.warnings["ball_0"]
    assert "changed since training: imagesTr/ball_0.nii.gz: voxel size 1 x 1 x 1.5 mm to 3 x 3 x 4.5 mm" in found
    assert of_role.to_json("run")["warnings"] == {"ball_0": list(found)}
    resampled = Predictor(ball_run.checkpoint, InferenceOverrides(resample=True))
    content = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**content, "training": content["training"][:2]}))
    assert evaluate(resampled, open_dataset(data), "all").warnings == {}


def test_unchanged_data_has_no_warnings(ball_run: BallRun) -> None:
    assert evaluate(Predictor(ball_run.checkpoint), open_dataset(ball_run.data), "all").warnings == {}


def test_changed_voxels_of_a_subject_are_warned_of(ball_run: BallRun, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(ball_run.data, data)
    predictor = Predictor(ball_run.checkpoint)
    role = next(name for name, ids in predictor.metadata.split.items() if "ball_0" in ids)
    shutil.copy(data / "labelsTr" / "ball_2.nii.gz", data / "labelsTr" / "ball_0.nii.gz")
    (warning,) = evaluate(predictor, open_dataset(data), role).warnings["ball_0"]  # type: ignore[arg-type]
    assert "changed since training: labelsTr/ball_0.nii.gz: content (label 2 in" in warning


@pytest.mark.slow
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
        on_prediction=lambda result: scores.append(result.score),
    )
    assert scores == [evaluation.subjects["ball_0"], None] and evaluation.unscored == (unlabelled,)
    content["labels"] = {"0": "background", "1": "other"}  # classes are not compared without a label
    (data / "dataset.json").write_text(json.dumps(content))
    assert evaluate(predictor, open_dataset(data), subjects=[unlabelled], on_prediction=lambda *_: None).subjects == {}
    with pytest.raises(DatasetError, match="got 'nobody'"):
        evaluate(predictor, dataset, subjects=["nobody"])


@pytest.mark.slow
def test_network_without_an_ignore_label_is_not_scored_in_ignored_voxels(ball_run: BallRun, tmp_path: Path) -> None:
    dataset = open_dataset(write_ignored_balls(tmp_path / "ignored"))
    predictor = Predictor(ball_run.checkpoint)
    evaluation = evaluate(predictor, dataset, "all")
    loaded = load_subject(dataset, "ball_2")
    assert loaded.label is not None and (loaded.label == IGNORE_INDEX).any()
    prediction = predictor.segment(SubjectImage.of(loaded))
    assert (prediction[:, :SLAB] > 0).any(), "the network segments there nevertheless"
    cropped = score_subject(loaded.label[:, SLAB:], prediction[:, SLAB:], (1.0, 1.0, 1.5), predictor.labels.names)
    assert evaluation.subjects["ball_2"] == cropped
    # The same label as a class of the data set is background to the network.
    as_class = evaluate(predictor, open_dataset(tmp_path / "ignored", options=DataOptions(ignore="none")), "all")
    assert as_class.subjects["ball_2"].dice["dark"] < evaluation.subjects["ball_2"].dice["dark"]


@pytest.mark.slow
def test_network_with_an_ignore_label_is_scored_on_data_without_one(ball_run: BallRun) -> None:
    """Also where the label was chosen by a name that the data set does not have."""
    metadata = Predictor(ball_run.checkpoint).metadata
    config = metadata.train_config.with_values({"ignore": "border"}).to_json()
    labels = [*metadata.labels, {"name": "border", "colour": "#000000", "raw": 9, "ignore": True}]
    trained = replace(metadata, config=config, labels=labels)
    dataset = open_dataset(ball_run.data, options=DataOptions.from_config(trained.train_config.data))
    assert dataset.labels.ignore is not None and dataset.labels.ignore.raw == 9
    loaded = load_subject(dataset, "ball_0")
    assert loaded.label is not None and set(np.unique(loaded.label)) == {0, 1, 2}
