"""``check`` on the command line: exit status, strict JSON, progress lines, pictures and the report file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.cli import main
from core.paths import project_root
from tests.support.nested_tumours import write_tumours
from tests.support.strict_json import loads_strict
from tests.support.volume_files import make_decathlon, make_iseg, voxels, write_nifti

PROJECT = project_root()


def test_report_of_a_data_set_without_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(make_iseg(tmp_path))]) == 0
    text, err = capsys.readouterr()
    lines = text.splitlines()
    assert "3 subjects, iSEG-2017 layout" in lines[0] and lines[1].startswith("layout iseg: its files are named like")
    assert "background, CSF, GM, WM" in lines[2]
    assert lines[4].split()[:2] == ["subject", "shape"]
    assert lines[5].split()[:4] == ["subject-1", "6x7x5", "1x1.5x2", "RAS"]
    ready = lines.index("ready for training")
    assert lines[ready + 2] == "training for 10 minutes (--preset auto) would be" and err == ""
    assert lines[-1].startswith("  Validation: ")


def test_class_of_four_voxels_is_not_shown_as_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_decathlon(tmp_path, 5)
    for n in range(1, 6):
        label = np.zeros((40, 40, 40), np.uint8)
        label[5:20, 5:20, 5:20] = 1
        label[30:32, 30:32, 30] = 2
        write_nifti(tmp_path / "labelsTr" / f"case_00{n}.nii.gz", label)
        write_nifti(tmp_path / "imagesTr" / f"case_00{n}.nii.gz", voxels((40, 40, 40), n))
    assert main(["check", str(tmp_path)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("case_001"))
    assert row.split()[-2:] == ["5.27", "0.006"], "4 of 64,000 voxels are 0.00625 %"


def test_errors_in_the_data_set_have_exit_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_decathlon(tmp_path)
    for n in (1, 2):
        (tmp_path / "labelsTr" / f"case_00{n}.nii.gz").unlink()
    assert main(["check", str(tmp_path)]) == 1
    text, err = capsys.readouterr()
    assert text.splitlines()[-1] == "not ready for training: 2 errors"
    assert err.startswith("error: case_001: ") and err.count("\n") == 1 and "(and 1 more)" in err


def test_json_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(make_iseg(tmp_path)), "--layout", "iseg", "--json"]) == 0
    report = loads_strict(capsys.readouterr().out)
    assert report["ok"] and len(report["subjects"]) == 3 and report["modalities"] == ["T1", "T2"]


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert main(["check", str(tmp_path / "none"), *flags]) == 1
    text, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and "found nothing there" in err
    assert json.loads(text)["ok"] is False if flags else text == ""


@pytest.mark.slow
def test_child_process_of_the_web_server_gets_progress_report_and_pictures(tmp_path: Path) -> None:
    data = make_iseg(tmp_path / "my data ü")
    out = tmp_path / "report"
    done = subprocess.run(
        [sys.executable, "-m", "core", "check", str(data), "--json", "--progress", "--thumbnails", str(out)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"progress {n}/3" for n in range(4)]
    assert json.loads(done.stdout) == json.loads((out / "report.json").read_text(encoding="utf-8"))
    pictures = [f"subject-{n}.png" for n in (1, 2, 3)]
    assert sorted(p.name for p in out.iterdir()) == ["contact-sheet.png", "report.json", *pictures]


def test_report_is_written_for_a_data_set_with_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path), "--thumbnails", str(tmp_path / "report")]) == 1
    assert json.loads((tmp_path / "report" / "report.json").read_text())["ok"] is False
    assert "error: " in capsys.readouterr().err


def test_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["check", str(make_iseg(tmp_path / "data")), "--thumbnails", str(tmp_path / "file" / "x")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "file" / "x") in error and "choose another place" in error


@pytest.mark.slow
def test_problems_are_mended_on_request_and_the_recipe_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_SETTINGS", str(tmp_path / "settings"))
    data = make_iseg(tmp_path / "data", 4)
    (data / "subject-3-T2.nii.gz").write_bytes(b"nothing")
    assert main(["check", str(data)]) == 1
    assert "[--repair: leave the case out]" in capsys.readouterr().out
    assert main(["check", str(data), "--repair", "--rename", "10=liquor"]) == 0
    out, err = capsys.readouterr()
    assert "3 subjects" in out and "liquor" in out and "recipe: left out: subject-3" in err
    assert main(["check", str(data), "--forget-repairs"]) == 1
    capsys.readouterr()
    for wrong, reason in (
        ("7=liver", "expected label values out of 0, 10, 150, 250; got 7"),
        ("10=GM", "got 'GM' for two"),
    ):
        assert main(["check", str(data), "--rename", wrong]) == 1
        assert reason in capsys.readouterr().err
    assert main(["check", str(data), "--rename", "liquor"]) != 0
    assert "--rename: expected a label value and a name" in capsys.readouterr().err


@pytest.mark.slow
def test_subject_with_the_name_of_a_path_or_of_the_contact_sheet_has_its_picture(tmp_path: Path) -> None:
    data = write_tumours(tmp_path / "data", subjects=2)
    content = json.loads((data / "dataset.json").read_text("utf-8"))
    files = [([f"imagesTr/case_{n}_0000.nii.gz"], f"labelsTr/case_{n}.nii.gz") for n in range(2)]
    ids = ("site/case", "contact-sheet")
    content["dataset"] = {
        id: {"images": images, "label": label} for id, (images, label) in zip(ids, files, strict=True)
    }
    (data / "dataset.json").write_text(json.dumps(content), "utf-8")
    assert main(["check", str(data), "--thumbnails", str(tmp_path / "t")]) == 0
    report = json.loads((tmp_path / "t" / "report.json").read_text("utf-8"))
    assert {s["id"] for s in report["subjects"]} == set(ids)
    for subject in report["subjects"]:
        with Image.open(tmp_path / "t" / subject["thumbnail"]) as picture:
            assert picture.height == 192, "not the contact sheet"
