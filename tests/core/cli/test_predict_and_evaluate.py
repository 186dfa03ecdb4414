"""``predict`` and ``evaluate`` as a person uses them: files, runs, JSON, and one line for what cannot be done."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.cli import main
from core.runs.launch import create_run
from core.runs.predictions import read_predictions
from tests.support.balls import SPACING_MM, balls, tiny
from tests.support.volume_files import load, write_analyze

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


def refuse_constant(name: str) -> float:
    raise AssertionError(f"{name} in JSON")


@pytest.fixture
def run_id(ball_run: BallRun, checkpoints: Path) -> str:
    folder = create_run(checkpoints, tiny(path=str(ball_run.data)), "balls")
    shutil.copy(ball_run.checkpoint, folder / "last.safetensors")
    return folder.name


@pytest.mark.parametrize("subject", ["ball_0", "ball_1"])
def test_the_segmentation_lies_where_the_image_lies(
    ball_run: BallRun, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], subject: str
) -> None:
    image, out = ball_run.data / "imagesTr" / f"{subject}.nii.gz", tmp_path / "seg.nii.gz"
    assert main(["predict", run_id, str(image), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "bright" in said.out and " ml" in said.out and said.err == ""
    given, written = load(image), load(out)
    np.testing.assert_array_equal(given.affine, written.affine)
    for code in ("sform_code", "qform_code"):
        assert given.header[code] == written.header[code]
    truth = np.asarray(load(ball_run.data / "labelsTr" / f"{subject}.nii.gz").dataobj)
    found = np.asarray(written.dataobj)
    assert found.shape == truth.shape and set(np.unique(found)) <= {0, 1, 2}
    for value in (1, 2):
        overlap = 2 * ((found == value) & (truth == value)).sum() / ((found == value).sum() + (truth == value).sum())
        assert overlap > 0.8, "voxel by voxel, in the order of the file"


def test_predict_as_json(ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, out = ball_run.data / "imagesTr" / "ball_2.nii.gz", tmp_path / "seg.nii"
    arguments = ["predict", str(ball_run.checkpoint), str(image), "--out", str(out), "--mode", "tiles", "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=refuse_constant)
    found = np.asarray(load(out).dataobj)
    assert report["volume_ml"]["dark"] == pytest.approx((found == 2).sum() * 1.5 / 1000)
    assert (report["mode"], report["device"], report["images"]) == ("tiles", "cpu", {"M0": str(image)})


@pytest.mark.parametrize(("flags", "expected"), [([], False), (["--mirror"], True), (["--no-mirror"], False)])
def test_mirror_images_as_asked(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], expected: bool
) -> None:
    image, out = ball_run.data / "imagesTr" / "ball_2.nii.gz", tmp_path / "seg.nii"
    assert main(["predict", str(ball_run.checkpoint), str(image), "--out", str(out), "--json", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["mirror"] is expected
    asked = ["evaluate", str(ball_run.checkpoint), str(ball_run.data), "--subject", "ball_1", "--json", *flags]
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["mirror"] is expected


def test_an_image_without_orientation_gives_a_segmentation_without(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair, out = write_analyze(tmp_path / "scan", balls(5)[0][0], SPACING_MM), tmp_path / "seg.nii.gz"
    assert main(["predict", str(ball_run.checkpoint), str(pair), "--out", str(out)]) == 0
    assert "states no orientation" in capsys.readouterr().err
    written = load(out)
    assert written.header["sform_code"] == written.header["qform_code"] == 0
    np.testing.assert_allclose(written.header.get_zooms(), SPACING_MM)


def test_evaluate_as_json(ball_run: BallRun, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "balls", str(ball_run.data), "--split", "all", "--json"]) == 0
    said = capsys.readouterr()
    report: dict[str, Any] = json.loads(said.out, parse_constant=refuse_constant)
    assert (report["run"], report["split"], report["classes"]) == (run_id, "all", ["bright", "dark"])
    assert [s["id"] for s in report["subjects"]] == [f"ball_{n}" for n in range(6)]
    for subject in report["subjects"]:
        assert subject.keys() == {"id", "dice", "hd95_mm", "asd_mm", "missed", "volume_ml"}
        assert subject["volume_ml"]["bright"].keys() == {"truth", "prediction"}
    mean = report["mean"]
    assert mean.keys() == {"dice", "hd95_mm", "asd_mm", "n", "missed"} and mean["n"] == {"bright": 6, "dark": 6}
    assert mean["dice"]["bright"] > 0.8 and 0 <= mean["asd_mm"]["bright"] < 1


def test_evaluate_for_people(ball_run: BallRun, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", run_id, str(ball_run.data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("val subjects of Balls, whole volumes, n = 2")
    assert lines[1].split() == ["subject", "Dice", "bright", "Dice", "dark", "mean"]
    assert lines[6].split() == ["class", "Dice", "HD95", "mm", "ASD", "mm", "n", "missed"]


def test_evaluate_keeps_what_it_segments(
    ball_run: BallRun, run_id: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", run_id, str(ball_run.data), "--subject", "ball_3", "--subject", "ball_1"]
    assert main([*arguments, "--keep", "--progress", "--json"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out, parse_constant=refuse_constant)
    assert (report["split"], [s["id"] for s in report["subjects"]]) == ("chosen", ["ball_3", "ball_1"])
    lines = said.err.splitlines()
    assert all(re.fullmatch(r"progress [0-9]+/200", line) for line in lines) and len(set(lines)) > 6
    assert lines[0] == "progress 0/200" and lines[-1] == "progress 200/200"
    checkpoint = checkpoints / run_id / "last.safetensors"
    kept = read_predictions(checkpoints, checkpoint, ball_run.data)
    assert kept.keys() == {"ball_1", "ball_3"} and Path(report["kept"]) == kept["ball_1"].file.parent
    assert report["subjects"][1]["dice"] == {n: pytest.approx(v) for n, v in kept["ball_1"].score.dice.items()}  # type: ignore[union-attr]
    assert kept["ball_1"].file.is_relative_to(checkpoints / run_id / "predictions")
    alone = checkpoints / "alone.nii.gz"
    assert main(["predict", run_id, str(ball_run.data / "imagesTr" / "ball_1.nii.gz"), "--out", str(alone)]) == 0
    assert alone.read_bytes() == kept["ball_1"].file.read_bytes()


def test_predict_reports_progress_as_lines(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = ball_run.data / "imagesTr" / "ball_2.nii.gz", tmp_path / "seg.nii"
    arguments = ["predict", str(ball_run.checkpoint), str(image), "--out", str(out), "--mode", "tiles", "--progress"]
    assert main(arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    total = int(lines[-1].split("/")[1])
    assert lines[-1] == f"progress {total}/{total}" and len(lines) >= total > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["predict", "nothing", "IMAGE", "--out", "OUT.nii"],
            "expected a checkpoint file or a run, found no file 'nothing'",
        ),
        (["predict", "IMAGE", "IMAGE", "--out", "OUT.nii"], "is not a checkpoint (expected safetensors)"),
        (["predict", "MODEL", "IMAGE", "--out", "OUT.txt"], "expected a name ending in .nii or .nii.gz"),
        (["predict", "MODEL", "IMAGE", "--out", "no/where.nii"], "expected a folder that exists to write to"),
        (["predict", "MODEL", "missing.nii", "--out", "OUT.nii"], "missing.nii"),
        (["predict", "MODEL", "IMAGE", "IMAGE", "--out", "OUT.nii"], "expected 1 image in the order M0"),
        (["predict", "MODEL", "IMAGE", "--out", "IMAGE"], "expected another file to write to than the image itself"),
        (["predict", "MODEL", "IMAGE", "--out", "OUT.nii", "--device", "cuda"], "expected a CUDA device"),
        (["evaluate", "MODEL", "nowhere"], "found nothing there"),
        (["evaluate", "MODEL", "DATA", "--split", "test"], "expected subjects in the split test"),
        (["evaluate", "MODEL", "DATA", "--subject", "ball_77"], "got 'ball_77'"),
    ],
)
def test_one_clear_line(
    ball_run: BallRun, checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    image = tmp_path / "image.nii.gz"
    shutil.copy(ball_run.data / "imagesTr" / "ball_0.nii.gz", image)
    names = {
        "IMAGE": str(image), "MODEL": str(ball_run.checkpoint), "DATA": str(ball_run.data),
        "OUT.nii": str(tmp_path / "out.nii"), "OUT.txt": str(tmp_path / "out.txt"),
    }  # fmt: skip
    before = image.read_bytes()
    assert main([names.get(word, word) for word in arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ") and message in line
    assert image.read_bytes() == before and not (tmp_path / "out.nii").exists()


def test_a_run_without_a_checkpoint(checkpoints: Path, ball_run: BallRun, capsys: pytest.CaptureFixture[str]) -> None:
    create_run(checkpoints, tiny(path=str(ball_run.data)), "young")
    assert main(["evaluate", "young", str(ball_run.data)]) == 1
    assert "it has no checkpoint yet (it is queued)" in capsys.readouterr().err


@pytest.mark.parametrize("overlap", ["1", "-0.1", "x"])
def test_overlap_is_a_share(overlap: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", "run", "image.nii", "--out", "out.nii", f"--overlap={overlap}"])
    assert ended.value.code == 2 and "--overlap" in capsys.readouterr().err
