"""``review files``: scores of a segmentation against a reference, as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.cli import main
from tests.support.file_cases import SPACING, Files, write_case
from tests.support.volume_files import write_nifti


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_case(tmp_path / "case")


def command(files: Files, *options: str) -> list[str]:
    pair = ["--reference", str(files.reference), "--segmentation", str(files.segmentation)]
    return ["review", "files", str(files.image), *pair, *options]


RENAMED = ("--segmentation-name", "1=label 10", "--segmentation-name=2=label 150")


def test_scores_are_reported_as_json_with_names_and_values(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(files, *RENAMED, "--errors", "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    a, b = files.truth == 10, files.prediction == 1
    assert report["score"]["dice"]["label 10"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert report["score"]["dice"]["label 150"] == 1 and report["score"]["hd95_mm"]["label 150"] == 0
    assert report["mean_dice"] == pytest.approx(np.mean(list(report["score"]["dice"].values())))
    assert report["score"]["volume_ml"]["label 10"]["truth"] == pytest.approx(a.sum() * 1.8e-3)
    found = report["segmentation"]["values"][0]
    assert found == {"value": 1, "name": "label 10", "voxels": int(b.sum()), "ml": pytest.approx(b.sum() * 1.8e-3)}
    assert [c["name"] for c in report["classes"]] == ["label 10", "label 150"] and report["warnings"] == []
    assert report["findings"]["classes"] == ["background", "label 10", "label 150"]


def test_text_is_a_table_and_warnings_are_beside_it(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(files, "--errors")) == 0
    written = capsys.readouterr()
    lines = written.out.splitlines()
    assert lines[0].split()[:2] == ["class", "Dice"] and lines[1].startswith("label 10") and "missed" in lines[1]
    assert "region" in written.out and written.err.count("warning: ") == 2


def test_given_table_names_the_values_of_both(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "names.txt"
    table.write_text("0 air 0 0 0 0\n1 grey 1 2 3 0\n10 grey 1 2 3 0\n2 white 4 5 6 0\n150 white 4 5 6 0\n")
    assert main(command(files, "--names", str(table), "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["score"]["dice"].keys() == {"grey", "white"} and report["reference"]["names_from"] == "names.txt"
    assert report["classes"][0]["colour"] == "#010203"


def test_one_segmentation_is_described(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", "files", str(files.image), "--segmentation", str(files.segmentation)]) == 0
    assert "label 2" in capsys.readouterr().out
    assert main(["review", "files", str(files.image), "--segmentation", str(files.segmentation), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["score"] is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--reference-name", "tumour=3"), "--reference-name: expected VALUE=NAME such as 3=tumour, got 'tumour=3'"),
        (("--reference-name", "3=tumour"), "expected one of the values [10, 150] of the reference, got '3=tumour'"),
        (("--names", "missing.label"), "missing.label"),
        (("--segmentation", "missing.nii"), "missing.nii"),
    ],
)
def test_wrong_arguments_are_one_line(
    files: Files, options: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(files, *options)) == 1
    assert reason in capsys.readouterr().err


def test_mismatch_is_refused_with_its_reason(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    write_nifti(files.segmentation, files.prediction, SPACING @ np.diag([-1, 1, 1, 1]))
    assert main(command(files)) == 1
    written = capsys.readouterr()
    assert "found.nii.gz" in written.err and "mirrors it left-right" in written.err and written.out == ""
    assert main(["review", "files", str(files.image)]) == 1
    assert "expected a segmentation: --reference REF" in capsys.readouterr().err
