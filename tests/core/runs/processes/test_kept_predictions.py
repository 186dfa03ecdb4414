"""What training segmented is kept as Review keeps it: valid for the best checkpoint, with all scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.events import Event, Note, Preparing, Segmented
from core.inference.predictor import Predictor
from core.inference.subject_image import SubjectImage
from core.packed_labels import PackedLabels
from core.runs.launch import create_run
from core.runs.predictions import read_predictions
from core.runs.processes.kept_predictions import keep_predictions
from core.training import validation_rhythm
from core.training.experiment import train_run
from tests.support.balls import tiny, write_balls

NEVER: Callable[[], bool] = lambda: False  # noqa: E731 - a stop request


@dataclass(frozen=True)
class Trained:
    """A run in its folder, its data set, and its segmentations of the held-out subjects."""

    folder: Path
    data: Path
    segmented: Segmented

    def kept(self) -> dict[str, float]:
        """Mean Dice of the valid predictions by subject."""
        predictions = read_predictions(self.folder.parent, self.folder / "best.safetensors", self.data)
        assert not any(prediction.stale for prediction in predictions.values())
        scores = {id: prediction.score for id, prediction in predictions.items()}
        return {id: math.nan if score is None else score.mean_dice for id, score in scores.items()}


def train(root: Path, **values: object) -> Trained:
    data = write_balls(root / "data")
    config = tiny(**{"path": str(data), "epochs": 4, "whole_every": 2, "inference_mode": "tiles", **values})
    folder = create_run(root / "runs", config, "balls")
    events: list[Event] = []
    train_run(config, folder, events.append)
    return Trained(folder, data, next(e for e in events if isinstance(e, Segmented)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("trained"))


@pytest.mark.slow
def test_kept_predictions_are_those_of_review_without_segmenting_again(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_dataset(trained.data)
    predictor = Predictor(trained.folder / "best.safetensors")
    expected = {}
    for id in trained.segmented.label_maps:
        loaded = load_subject(data, id, predictor.modalities)
        expected[id] = predictor.segment(SubjectImage.of(loaded))
    monkeypatch.setattr(Predictor, "segment_unprocessed", None)
    events: list[Event] = []
    keep_predictions(trained.folder, trained.segmented, 60.0, events.append, NEVER)
    assert events[0] == Preparing("scoring held-out subjects", 0, 2) and not [e for e in events if isinstance(e, Note)]
    predictions = read_predictions(trained.folder.parent, trained.folder / "best.safetensors", trained.data)
    assert set(predictions) == set(expected) and not any(p.stale for p in predictions.values())
    for id, prediction in predictions.items():
        stored = load_subject(data, id)
        labels = trained.segmented.label_maps[id]
        assert labels is not None
        kept = labels.unpack()
        assert stored.image.shape[1:] == kept.shape
        assert np.mean(kept != expected[id]) < 1e-3  # training keeps intensities in half precision
        score = prediction.score
        assert score is not None and all(math.isfinite(v) for v in [*score.dice.values(), *score.hd95_mm.values()])
        assert prediction.settings["mode"] == "tiles"


@pytest.mark.slow
def test_subject_that_training_resampled_is_segmented_on_its_own_grid(tmp_path: Path) -> None:
    run = train(tmp_path, spacing_mm=(1.25, 1.25, 1.5))
    keep_predictions(run.folder, run.segmented, 60.0, lambda event: None, NEVER)
    kept = run.kept()
    assert set(kept) == set(run.segmented.label_maps) and all(value > 0.3 for value in kept.values())


@pytest.mark.slow
def test_time_limit_stop_and_another_checkpoint_are_heeded(trained: Trained, tmp_path: Path) -> None:
    for prediction in (trained.folder / "predictions").rglob("*.json"):
        prediction.unlink()
    events: list[Event] = []
    keep_predictions(trained.folder, trained.segmented, 0.0, events.append, NEVER)
    assert len(trained.kept()) == 1  # the worst one
    assert next(iter(trained.kept())) == next(iter(trained.segmented.label_maps))
    assert "1 of 2 held-out subjects" in next(e.text for e in events if isinstance(e, Note))
    keep_predictions(trained.folder, trained.segmented, 60.0, events.append, lambda: True)
    assert len(trained.kept()) == 1
    wrong = {id: PackedLabels((20, 24, 18), b"not of this checkpoint") for id in trained.segmented.label_maps}
    other = replace(trained.segmented, step=trained.segmented.step + 1, label_maps=wrong)
    keep_predictions(trained.folder, other, 60.0, events.append, NEVER)
    assert len(trained.kept()) == 2 and min(trained.kept().values()) > 0.3


@pytest.mark.slow
def test_run_without_whole_volumes_gets_predictions_where_that_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_rhythm, "MAX_SHARE", 100.0)  # a busy machine takes long for a validation
    run = train(tmp_path, whole_every=0, minutes=0.02)
    assert set(run.segmented.label_maps.values()) == {None} and run.segmented.expected_s > 0
    keep_predictions(run.folder, replace(run.segmented, expected_s=121.0), 60.0, lambda event: None, NEVER)
    assert not run.kept()  # of two subjects the first one takes too long
    keep_predictions(run.folder, run.segmented, 60.0, lambda event: None, NEVER)
    assert len(run.kept()) == 2


@pytest.mark.slow
def test_error_is_logged_and_does_not_fail_the_run(trained: Trained, tmp_path: Path) -> None:
    events: list[Event] = []
    keep_predictions(tmp_path, trained.segmented, 60.0, events.append, NEVER)  # no checkpoint there
    assert "are not kept" in next(e.text for e in events if isinstance(e, Note))
