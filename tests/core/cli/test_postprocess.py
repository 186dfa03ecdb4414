"""``postprocess``, and ``predict`` and ``evaluate`` with what it stored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.checkpointing.checkpoint import load, save
from core.checkpointing.metadata import TRAINED_ON, read_metadata
from core.cli import main
from core.inference.predictor import Predictor
from core.runs.prediction_origin import OTHER_POSTPROCESSING
from core.runs.predictions import read_predictions
from core.runs.store.state import RunState, write_state

if TYPE_CHECKING:
    from tests.core.conftest import BallRun

LARGEST = {"largest": True, "minimum_ml": 0.0, "fill_holes": False}


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


@pytest.fixture(autouse=True)
def ended(run_id: str, checkpoints: Path) -> None:
    """The run has ended."""
    write_state(checkpoints / run_id, RunState(state="stopped"))


def with_island(labels: np.ndarray) -> np.ndarray:
    """A false component of the class bright in a corner."""
    labels = labels.copy()
    labels[:2, :2, :2] = 1
    return labels


@pytest.fixture
def islands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every prediction has a false component."""
    segment = Predictor.segment_unprocessed
    monkeypatch.setattr(
        Predictor, "segment_unprocessed", lambda self, *args, **named: with_island(segment(self, *args, **named))
    )


def test_rules_are_stored_shown_and_removed(run_id: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--largest", "bright", "--minimum", "dark=0.5", "--fill-holes", "bright", "dark", "--json"]
    assert main(["postprocess", run_id, *options]) == 0
    stored = report(capsys)
    assert stored["by"] == "hand"
    assert stored["postprocessing"] == {
        "bright": {"largest": True, "minimum_ml": 0.0, "fill_holes": True},
        "dark": {"largest": False, "minimum_ml": 0.5, "fill_holes": True},
    }
    assert main(["postprocess", run_id]) == 0
    assert "bright: largest component, holes filled; dark: components of at least 0.5 ml" in capsys.readouterr().out
    path = checkpoints / run_id / "last.safetensors"
    assert load(path, training_state=True).optimizer, "the run can still be resumed"
    assert main(["postprocess", run_id, "--minimum", "dark=0"]) == 1
    assert "expected a volume above 0 ml; to remove all rules: --none" in capsys.readouterr().err
    assert main(["postprocess", run_id, "--none"]) == 0
    assert "postprocessing: none" in capsys.readouterr().out and not read_metadata(path).postprocessing


@pytest.mark.slow
@pytest.mark.usefixtures("islands")
def test_auto_removes_false_components_and_evaluate_shows_both_scores(
    ball_run: BallRun, run_id: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", run_id, str(ball_run.data), "--keep", "--json"]) == 0
    before = report(capsys)
    assert before["mean_without_postprocessing"] is None and before["postprocessing"] == {}
    path = checkpoints / run_id / "last.safetensors"
    assert main(["postprocess", run_id, "--auto", "--json"]) == 0
    chosen = report(capsys)
    assert chosen["subjects"] == 2 and chosen["postprocessing"].keys() >= {"bright"}
    assert chosen["dice"]["bright"]["before"] == pytest.approx(before["mean"]["dice"]["bright"])
    assert chosen["dice"]["bright"]["after"] > chosen["dice"]["bright"]["before"]
    kept = read_predictions(checkpoints, path, ball_run.data)
    assert {p.stale_reason for p in kept.values()} == {OTHER_POSTPROCESSING}
    assert main(["evaluate", run_id, str(ball_run.data), "--keep", "--json"]) == 0
    after = report(capsys)
    assert after["mean"]["dice"]["bright"] == pytest.approx(chosen["dice"]["bright"]["after"])
    assert after["mean_without_postprocessing"]["dice"] == before["mean"]["dice"]
    kept = read_predictions(checkpoints, path, ball_run.data)
    for id, prediction in kept.items():
        assert not prediction.stale and prediction.score is not None and prediction.unprocessed_score is not None
        assert prediction.unprocessed_score.dice["bright"] < prediction.score.dice["bright"], id
    assert main(["evaluate", run_id, str(ball_run.data), "--no-postprocessing", "--keep", "--json"]) == 0
    assert report(capsys)["mean"] == before["mean"]
    kept = read_predictions(checkpoints, path, ball_run.data)
    assert {p.stale_reason for p in kept.values()} == {OTHER_POSTPROCESSING}


@pytest.mark.slow
@pytest.mark.usefixtures("islands")
def test_predict_applies_what_is_stored(
    ball_run: BallRun, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = str(ball_run.data / "imagesTr" / "ball_1.nii.gz"), ["--out", str(tmp_path / "seg.nii"), "--json"]
    assert main(["postprocess", run_id, "--largest", "bright"]) == 0
    capsys.readouterr()
    assert main(["predict", run_id, image, *out]) == 0
    treated = report(capsys)
    assert main(["predict", run_id, image, *out, "--no-postprocessing"]) == 0
    plain = report(capsys)
    assert treated["postprocessing"] == {"bright": LARGEST} and plain["postprocessing"] == {}
    assert treated["volume_ml"]["bright"] == pytest.approx(plain["volume_ml"]["bright"] - 8 * 1.5e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("islands")
def test_refit_is_decided_by_the_models_of_its_cross_validation(
    ball_run: BallRun, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each subject is segmented by the fold that had not seen it."""
    checkpoint = load(ball_run.checkpoint)
    split = checkpoint.metadata.split
    everything = [*split["train"], *split["val"]]
    folds = [split["val"], [id for id in everything if id not in split["val"]][:1]]
    paths = []
    for number, val in enumerate(folds):
        train = [id for id in everything if id not in val]
        checkpoint.metadata = replace(checkpoint.metadata, split={"train": train, "val": val})
        checkpoint.metadata.progress["epoch"] = number
        paths.append(tmp_path / f"fold-{number}.safetensors")
        save(paths[-1], checkpoint)
    checkpoint.metadata = replace(checkpoint.metadata, split={"train": everything, "val": []})
    refit = tmp_path / "refit.safetensors"
    save(refit, checkpoint)
    assert main(["postprocess", str(refit), "--auto"]) == 1
    assert "the model holds out none; decide by the runs of a cross-validation" in capsys.readouterr().err
    assert main(["postprocess", str(refit), "--auto", "--decide-by", "+".join(map(str, paths)), "--json"]) == 0
    assert report(capsys)["subjects"] == 3
    assert main(["postprocess", str(refit)]) == 0
    assert f"by 3 held-out subjects of {paths[0]}+{paths[1]}" in capsys.readouterr().out
    assert read_metadata(refit).postprocessing.rules.keys() >= {"bright"}
    tested = {"train": everything[1:], "val": [], "test": everything[:1]}
    held_out = {id for val in folds for id in val}
    checkpoint.metadata = replace(checkpoint.metadata, split=tested)
    save(refit, checkpoint)
    assert main(["postprocess", str(refit), "--auto", "--decide-by", "+".join(map(str, paths)), "--json"]) == 0
    assert report(capsys)["subjects"] == len(held_out - set(tested["test"])) < 3, "test subjects decide nothing"


@pytest.mark.slow
@pytest.mark.usefixtures("islands")
def test_held_out_subjects_that_the_initial_network_had_seen_are_named(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = load(ball_run.checkpoint)
    (held_out, *_) = checkpoint.metadata.split["val"]
    trained_on = {str(ball_run.data): [held_out]}
    dataset = {**checkpoint.metadata.dataset, TRAINED_ON: trained_on}
    checkpoint.metadata = replace(checkpoint.metadata, dataset=dataset)
    path = tmp_path / "begun.safetensors"
    save(path, checkpoint)
    assert main(["postprocess", str(path), "--auto"]) == 0
    assert f"begun was trained on {held_out}: its scores there are too good" in capsys.readouterr().err
    save(path, load(ball_run.checkpoint))
    assert main(["postprocess", str(path), "--auto"]) == 0
    assert "too good" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--largest", "GM"], "postprocessing: expected classes out of"),
        (["--minimum", "dark"], "expected a class and a volume in ml like GM=0.5, got 'dark'"),
        (["--minimum", "dark=-1"], "minimum_ml: expected a volume from 0"),
        (["--auto", "--largest", "dark"], "choose one"),
        (["--decide-by", "balls"], "--decide-by: expected --auto"),
    ],
)
def test_error_is_one_line_and_the_file_is_as_before(
    run_id: str, checkpoints: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    before = (checkpoints / run_id / "last.safetensors").read_bytes()
    assert main(["postprocess", run_id, *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert (checkpoints / run_id / "last.safetensors").read_bytes() == before


def test_model_of_the_program_and_of_a_waiting_run_stay_as_they_are(
    run_id: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["postprocess", "demo-model", "--largest", "GM"]) == 1
    assert "it belongs to the program" in capsys.readouterr().err
    write_state(checkpoints / run_id, RunState(state="queued"))
    assert main(["postprocess", run_id, "--largest", "dark"]) == 1
    assert "it is queued and may replace its checkpoint" in capsys.readouterr().err
