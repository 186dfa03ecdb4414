"""``evaluate``: JSON and text report, kept segmentations, errors."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from core.checkpointing.metadata import read_metadata
from core.cli import main
from core.formatting import format_list
from core.runs.launch import create_run
from core.runs.predictions import read_predictions
from tests.support.balls import tiny
from tests.support.strict_json import loads_strict
from tests.support.volume_files import load

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


@pytest.mark.slow
def test_json_report(ball_run: BallRun, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "balls", str(ball_run.data), "--split", "all", "--json"]) == 0
    report = loads_strict(capsys.readouterr().out)
    assert (report["run"], report["split"], report["classes"]) == (run_id, "all", ["bright", "dark"])
    assert [s["id"] for s in report["subjects"]] == [f"ball_{n}" for n in range(6)]
    for subject in report["subjects"]:
        assert subject.keys() == {"id", "dice", "hd95_mm", "asd_mm", "missed", "volume_ml", "surface_dice"}
        assert subject["volume_ml"]["bright"].keys() == {"truth", "prediction"}
    mean = report["mean"]
    assert mean.keys() == {"dice", "hd95_mm", "asd_mm", "n", "missed", "surface_dice"}
    assert mean["n"] == {"bright": 6, "dark": 6}
    surface_dice = [subject["surface_dice"]["dark"]["1"] for subject in report["subjects"]]
    assert mean["surface_dice"]["dark"]["1"] == pytest.approx(sum(surface_dice) / 6)
    assert mean["dice"]["bright"] > 0.8 and 0 <= mean["asd_mm"]["bright"] < 1
    assert report["mirror"] is False


@pytest.mark.slow
def test_text_report_has_a_table_of_subjects_and_one_of_classes(
    ball_run: BallRun, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", run_id, str(ball_run.data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("val subjects of Balls, whole volumes, n = 2")
    assert lines[1].split() == ["subject", "Dice", "bright", "Dice", "dark", "mean"]
    assert lines[6].split() == ["class", "Dice", "HD95", "mm", "ASD", "mm", "n", "missed"]


@pytest.mark.slow
def test_kept_segmentations_are_those_of_predict(
    ball_run: BallRun, run_id: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", run_id, str(ball_run.data), "--subject", "ball_3", "--subject", "ball_1"]
    assert main([*arguments, "--mirror", "--keep", "--progress", "--json"]) == 0
    captured = capsys.readouterr()
    report = loads_strict(captured.out)
    assert (report["split"], [s["id"] for s in report["subjects"]]) == ("chosen", ["ball_3", "ball_1"])
    assert report["mirror"] is True
    lines = [line for line in captured.err.splitlines() if not line.startswith("warning: the model was trained on")]
    assert all(re.fullmatch(r"progress [0-9]+/200", line) for line in lines) and len(set(lines)) > 6
    assert lines[0] == "progress 0/200" and lines[-1] == "progress 200/200"
    checkpoint = checkpoints / run_id / "last.safetensors"
    kept = read_predictions(checkpoints, checkpoint, ball_run.data)
    assert kept.keys() == {"ball_1", "ball_3"} and Path(report["kept"]) == kept["ball_1"].file.parent
    score = kept["ball_1"].score
    assert score is not None and report["subjects"][1]["dice"] == {n: pytest.approx(v) for n, v in score.dice.items()}
    assert kept["ball_1"].file.is_relative_to(checkpoints / run_id / "predictions")
    image, out = ball_run.data / "imagesTr" / "ball_1.nii.gz", checkpoints / "out.nii.gz"
    assert main(["predict", run_id, str(image), "--mirror", "--out", str(out)]) == 0
    assert out.read_bytes() == kept["ball_1"].file.read_bytes()


def test_warnings_stay_with_report_and_kept_prediction(
    ball_run: BallRun, run_id: str, checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "coarse"
    shutil.copytree(ball_run.data, data)
    for path in (*(data / "imagesTr").glob("*_1.nii.gz"), *(data / "labelsTr").glob("*_1.nii.gz")):
        image = load(path)
        affine = image.affine * np.array([2, 2, 2, 1])[:, None]
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)
    arguments = ["evaluate", run_id, str(data), "--subject", "ball_1", "--subject", "ball_0", "--keep", "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    (warning,) = loads_strict(captured.out)["warnings"]["ball_1"]
    assert "the voxels are 2 x 2 x 3 mm, those of training 1 x 1 x 1.5 mm" in warning
    assert f"warning: ball_1: {warning}; --resample" in captured.err
    checkpoint = checkpoints / run_id / "last.safetensors"
    kept = read_predictions(checkpoints, checkpoint, data)
    assert kept["ball_1"].warnings == (warning,) and kept["ball_0"].warnings == ()
    assert main([*arguments, "--resample"]) == 0
    assert loads_strict(capsys.readouterr().out)["warnings"] == {}
    kept = read_predictions(checkpoints, checkpoint, data)
    assert kept["ball_1"].warnings == () and kept["ball_1"].settings["resampled_mm"] == [1.0, 1.0, 1.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "found nothing there"),
        (["DATA", "--split", "test"], "expected subjects in the split test"),
        (["DATA", "--subject", "ball_77"], "got 'ball_77'"),
    ],
)
def test_error_is_one_line(
    ball_run: BallRun, checkpoints: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    words = [str(ball_run.data) if word == "DATA" else word for word in arguments]
    assert main(["evaluate", str(ball_run.checkpoint), *words]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == "" and line.startswith("error: ") and message in line


def test_run_without_a_checkpoint_is_refused(
    checkpoints: Path, ball_run: BallRun, capsys: pytest.CaptureFixture[str]
) -> None:
    create_run(checkpoints, tiny(path=str(ball_run.data)), "young")
    assert main(["evaluate", "young", str(ball_run.data)]) == 1
    error = capsys.readouterr().err
    assert "no checkpoint yet" in error and "queued" in error


@pytest.mark.slow
def test_subjects_of_the_training_are_named_since_their_scores_are_too_good(
    ball_run: BallRun, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = read_metadata(ball_run.checkpoint).split
    trained, held_out = split["train"][0], split["val"][0]

    def report(*arguments: str) -> tuple[list[str], str]:
        assert main(["evaluate", run_id, *arguments, "--json"]) == 0
        captured = capsys.readouterr()
        return loads_strict(captured.out)["trained_on"], captured.err

    data, copied = str(ball_run.data), str(shutil.copytree(ball_run.data, tmp_path / "copy"))
    found, warning = report(data, "--subject", trained, "--subject", held_out)
    assert found == [trained]
    assert f"warning: the model was trained on 1 of the 2 cases ({trained}): these figures are too good" in warning
    found, warning = report(data, "--split", "all")
    assert found == split["train"] and f"trained on {len(found)} of the 6 cases" in warning
    assert report(data, "--subject", held_out) == ([], "")
    assert report(data, "--split", "train") == (split["train"], ""), "they were asked for"
    found, note = report(copied, "--subject", trained, "--subject", held_out)
    assert found == [] and f"if {trained} here are its training subjects of the same name" in note
    assert report(copied, "--subject", held_out) == ([], "")


@pytest.mark.slow
def test_an_exported_network_names_the_subjects_that_it_may_have_been_trained_on(
    ball_run: BallRun, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, split = str(tmp_path / "shared.safetensors"), read_metadata(ball_run.checkpoint).split
    assert main(["export", run_id, "--out", out]) == 0
    capsys.readouterr()
    for arguments, expected in (
        (["--split", "all"], split["train"]),
        (["--split", "val"], []),
        (["--subject", split["train"][0]], split["train"][:1]),
    ):
        assert main(["evaluate", out, str(ball_run.data), *arguments, "--json"]) == 0
        captured = capsys.readouterr()
        found = loads_strict(captured.out)
        assert (found["may_be_trained_on"], found["trained_on"]) == (expected, [])
        note = (
            f"note: the model was trained on subjects of the names {format_list(expected)}, in a folder that its file"
        )
        assert (note in captured.err) == bool(expected) == bool(captured.err)
