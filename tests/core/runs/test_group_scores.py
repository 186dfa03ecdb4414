"""Scores of a cross-validation: figures checked by hand, subjects without a score, folds without a checkpoint."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.checkpointing.checkpoint import Checkpoint, save
from core.checkpointing.metadata import CheckpointMetadata, read_metadata
from core.datasets import load_subject, open_dataset
from core.evaluation.metrics import SubjectScore
from core.evaluation.subject_prediction import SubjectPrediction
from core.imaging.postprocessing import ClassRule, Postprocessing
from core.labels import LabelSpace
from core.runs import groups
from core.runs.group_scores import CrossValidation, HeldOutSubject, cross_validation
from core.runs.predictions import predictions_folder, save_prediction
from core.runs.store.groups import Group
from core.strict_json import dumps
from tests.support.balls import CLASSES, tiny, write_balls


def score(bright: float, dark: float, hd95_mm: float = 1.0, missed: tuple[str, ...] = ()) -> SubjectScore:
    distances = {"bright": hd95_mm, "dark": hd95_mm}
    return SubjectScore({"bright": bright, "dark": dark}, distances, distances, missed, {})


def test_spread_is_over_subjects_and_over_means_of_folds() -> None:
    scores = CrossValidation(
        ("bright", "dark"),
        (
            HeldOutSubject("s1", "fold-0", score(0.9, 0.5)),
            HeldOutSubject("s2", "fold-0", score(0.7, 0.7)),
            HeldOutSubject("s3", "fold-1", score(0.5, math.nan, missed=("bright",))),
            HeldOutSubject("s4", "fold-1", None, "not segmented yet"),
        ),
        {},
    )
    bright = scores.spread("bright")
    assert bright.mean == pytest.approx(0.7)
    assert bright.sd_subjects == pytest.approx(0.2)  # of 0.9, 0.7, 0.5
    assert bright.sd_folds == pytest.approx(0.3 / math.sqrt(2))  # of 0.8 and 0.5
    assert (bright.n, bright.folds) == (3, 2)
    dark = scores.spread("dark")
    assert dark.mean == pytest.approx(0.6) and dark.n == 2
    assert math.isnan(dark.sd_folds) and dark.folds == 1  # the class is in one fold only
    mean = scores.mean_spread()
    assert mean.mean == pytest.approx(0.65) == scores.mean.mean_dice  # of 0.7 and 0.6, as `evaluate` reports it
    assert mean.sd_subjects == pytest.approx(np.std([0.7, 0.7, 0.5], ddof=1))
    assert mean.sd_folds == pytest.approx(np.std([(0.8 + 0.6) / 2, 0.5], ddof=1))
    assert [subject.id for subject in scores.missing] == ["s4"]
    assert '"missed": {"bright": 1, "dark": 0}' in dumps(scores.to_json())


def test_one_subject_has_no_spread_and_no_subject_no_figure() -> None:
    one = CrossValidation(("bright",), (HeldOutSubject("s1", "fold-0", score(0.9, 0.5)),), {}).spread("bright")
    assert one.mean == 0.9 and math.isnan(one.sd_subjects) and math.isnan(one.sd_folds)
    nothing = CrossValidation((), (), {"fold-0": "no checkpoint yet"})
    assert math.isnan(nothing.mean_spread().mean)
    assert nothing.to_json()["mean"] == {} and dumps(nothing.to_json())


@pytest.fixture
def group(tmp_path: Path, no_supervisor: None) -> Group:
    """Three folds; the first two have a checkpoint."""
    group = groups.submit_folds(tmp_path, tiny(path=str(write_balls(tmp_path / "balls"))))
    for run in groups.summarise(tmp_path, group).runs[:2]:
        write_checkpoint(tmp_path, run.id, groups.held_out_of(run), epoch=1)
    return group


def write_checkpoint(
    root: Path, run: str, held_out: tuple[str, ...], epoch: int, regions: Sequence[dict[str, Any]] = (), **values: Any
) -> None:
    labels = LabelSpace.from_raw(list(enumerate(CLASSES)))
    metadata = CheckpointMetadata(
        tiny(path=str(root / "balls"), **values).to_json(),
        labels.to_json(),
        ("M0",),
        None,
        dataset={
            "name": "balls",
            "path": str((root / "balls").resolve()),
            "layout": "decathlon",
            "regions": list(regions),
        },
        split={"train": [], "val": list(held_out), "test": []},
        progress={"epoch": epoch, "step": 8 * epoch, "elapsed_s": 1.0},
    )
    save(root / run / "best.safetensors", Checkpoint(metadata, {}))


def keep(root: Path, run: str, subject: str, given: SubjectScore, **result_values: Any) -> None:
    """A kept prediction with a score."""
    dataset = open_dataset(root / "balls")
    checkpoint = root / run / "best.safetensors"
    loaded = load_subject(dataset, subject)
    assert loaded.label is not None
    result = replace(SubjectPrediction(loaded, loaded.label, given, (), {}), **result_values)
    save_prediction(predictions_folder(root, checkpoint, dataset.path), read_metadata(checkpoint), dataset, result)


def test_each_subject_is_scored_by_the_run_that_held_it_out(tmp_path: Path, group: Group) -> None:
    first, second, third = group.runs
    split = [groups.held_out_of(run) for run in groups.summarise(tmp_path, group).runs]
    for subject in split[0]:
        keep(tmp_path, first, subject, score(0.9, 0.8))
    keep(tmp_path, second, split[1][0], score(0.5, 0.4))
    keep(tmp_path, second, split[0][0], score(0.1, 0.1))  # it was trained on this one
    scores = cross_validation(tmp_path, groups.summarise(tmp_path, group))
    assert scores.classes == CLASSES[1:]
    assert {(s.id, s.run) for s in scores.subjects} == {
        *((id, first) for id in split[0]),
        *((id, second) for id in split[1]),
    }
    assert scores.spread("bright").mean == pytest.approx((0.9 + 0.9 + 0.5) / 3)
    assert [(s.id, s.reason) for s in scores.missing] == [(split[1][1], "not segmented yet")]
    assert scores.waiting == {third: "no checkpoint yet, it is queued"}


def test_score_of_an_earlier_checkpoint_counts_no_more(tmp_path: Path, group: Group) -> None:
    run = groups.summarise(tmp_path, group).runs[0]
    held_out = groups.held_out_of(run)
    keep(tmp_path, run.id, held_out[0], score(0.9, 0.8))
    write_checkpoint(tmp_path, run.id, held_out, epoch=2)
    scores = cross_validation(tmp_path, groups.summarise(tmp_path, group))
    assert not scores.scored
    assert "segmented with an earlier checkpoint of this run" in {subject.reason for subject in scores.missing}


def test_scores_are_without_the_postprocessing_that_the_same_subjects_decided(tmp_path: Path, group: Group) -> None:
    """One subject was scored before the rules were chosen, the other one with them."""
    run = groups.summarise(tmp_path, group).runs[0]
    before, after = groups.held_out_of(run)
    keep(tmp_path, run.id, before, score(0.9, 0.8))
    path = tmp_path / run.id / "best.safetensors"
    rules = Postprocessing({"bright": ClassRule(largest=True)})
    save(path, Checkpoint(read_metadata(path).with_postprocessing(rules), {}))
    keep(tmp_path, run.id, after, score(1.0, 1.0), unprocessed_score=score(0.5, 0.6))
    scores = cross_validation(tmp_path, groups.summarise(tmp_path, group))
    dice = {subject.id: subject.score.dice["bright"] for subject in scores.subjects if subject.score}
    assert {id: dice[id] for id in (before, after)} == {before: 0.9, after: 0.5}
    (label,) = (tmp_path / "balls" / "labelsTr").glob(f"{before}*")
    os.utime(label, (1, 1))
    scores = cross_validation(tmp_path, groups.summarise(tmp_path, group))
    assert "files of this subject that have changed" in {s.id: s.reason for s in scores.subjects}[before]


def test_segmentations_with_other_settings_than_those_of_the_run_are_named(tmp_path: Path, group: Group) -> None:
    run = groups.summarise(tmp_path, group).runs[0]
    first, second = groups.held_out_of(run)
    own = {**read_metadata(tmp_path / run.id / "best.safetensors").inference_settings, "resampled_mm": None}
    keep(tmp_path, run.id, first, score(0.9, 0.8), settings=own)
    assert cross_validation(tmp_path, groups.summarise(tmp_path, group)).warnings == ()
    keep(tmp_path, run.id, second, score(0.9, 0.8), settings={**own, "mirror": True, "overlap": 0.75})
    (warning,) = cross_validation(tmp_path, groups.summarise(tmp_path, group)).warnings
    assert second in warning and first not in warning and "(overlap 0.75, mirror true)" in warning


def test_held_out_subjects_that_the_initial_network_was_trained_on_are_named(tmp_path: Path, group: Group) -> None:
    _, second, _ = groups.summarise(tmp_path, group).runs
    path = tmp_path / second.id / "best.safetensors"
    metadata, held_out = read_metadata(path), groups.held_out_of(second)
    trained_on = {metadata.dataset["path"]: [held_out[0]], "/elsewhere": [held_out[1]], "": ["other", held_out[1]]}
    save(path, Checkpoint(replace(metadata, dataset={**metadata.dataset, "trained_on": trained_on}), {}))
    warning, possible = cross_validation(tmp_path, groups.summarise(tmp_path, group)).warnings
    assert warning.startswith(second.id) and f"1 of its 2 held-out subjects ({held_out[0]})" in warning
    assert possible.startswith(second.id) and f"trained on subjects of the names {held_out[1]}, in a folder" in possible


def test_subjects_that_two_runs_held_out_are_named(tmp_path: Path, group: Group) -> None:
    first, second, _ = groups.summarise(tmp_path, group).runs
    subject, *_ = groups.held_out_of(first)
    write_checkpoint(tmp_path, second.id, (subject, groups.held_out_of(second)[0]), epoch=1)
    (warning,) = cross_validation(tmp_path, groups.summarise(tmp_path, group)).warnings
    assert warning.startswith(f"{subject}: held out by several runs")


def test_means_over_classes_and_over_regions_are_not_mixed(tmp_path: Path, group: Group) -> None:
    """Regions that an earlier version did not score are no difference."""
    first, second, third = groups.summarise(tmp_path, group).runs
    both = [
        {"name": "both", "classes": CLASSES[1:], "painted": CLASSES[1]},
        {"name": CLASSES[2], "classes": CLASSES[2:], "painted": CLASSES[2]},
    ]
    write_checkpoint(tmp_path, second.id, groups.held_out_of(second), 1, both)
    write_checkpoint(tmp_path, third.id, groups.held_out_of(third), 1, both, targets="regions")
    scores = cross_validation(tmp_path, groups.summarise(tmp_path, group))
    assert scores.classes == (*CLASSES[1:], "both") and scores.in_mean == CLASSES[1:]
    assert {subject.run for subject in scores.subjects} == {first.id, second.id}
    assert f"got one over both, {CLASSES[2]}; train it with the same --targets" in scores.waiting[third.id]


def test_run_that_cannot_be_read_is_reported_beside_the_others(tmp_path: Path, group: Group) -> None:
    (tmp_path / group.runs[0] / "best.safetensors").write_bytes(b"torn")
    scores = cross_validation(tmp_path, groups.summarise(tmp_path, group))
    assert group.runs[0] in scores.waiting and {s.run for s in scores.subjects} == {group.runs[1]}
