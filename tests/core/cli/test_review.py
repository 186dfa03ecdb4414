"""``review``: the cases of a model as table and files."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.checkpointing.metadata import read_metadata
from core.cli import main
from core.evaluation.error_map import DESCRIPTION
from tests.support.quiz_runs import QuizRun

pytestmark = pytest.mark.slow  # the run is trained once


@pytest.fixture
def subjects(quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects whose segmentation is kept, in a copy of the run."""
    shutil.copytree(quiz_run.root, tmp_path / "checkpoints")
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(tmp_path / "checkpoints"))
    records = (tmp_path / "checkpoints" / quiz_run.run / "predictions").glob("*/*.json")
    return sorted(str(json.loads(record.read_text())["subject"]) for record in records)


def test_cases_are_a_table_on_standard_output_or_in_a_file(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", "cases", quiz_run.run, str(quiz_run.data)]) == 0
    table = capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["Case"] for row in rows[::3]] == subjects and {row["Class"] for row in rows} >= {"bright", "dark"}
    assert main(["review", "cases", quiz_run.run, str(quiz_run.data), "--out", str(tmp_path / "cases.csv")]) == 0
    assert (tmp_path / "cases.csv").read_text() == table


def test_errors_and_prediction_lie_in_the_images_own_geometry(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reference is a file of the data set, whose stored voxels the exported ones are compared with."""
    errors, prediction, sheet = (tmp_path / name for name in ("e.nii.gz", "p.nii.gz", "s.pdf"))
    command = ["review", "export", quiz_run.run, str(quiz_run.data), subjects[0], "--slices", "4"]
    assert main([*command, "--errors", str(errors), "--prediction", str(prediction), "--sheet", str(sheet)]) == 0
    assert str(sheet) in capsys.readouterr().out and sheet.read_bytes().startswith(b"%PDF")
    label = next((quiz_run.data / "labelsTr").glob(f"{subjects[0]}*"))
    truth, found, predicted = nib.load(label), nib.load(errors), nib.load(prediction)
    assert np.allclose(found.affine, truth.affine) and found.header["descrip"].item().decode() == DESCRIPTION  # type: ignore[attr-defined]
    assert predicted.header["descrip"].item().decode() == "labels: 1 bright, 2 dark"  # type: ignore[attr-defined]
    t, p, e = (np.asanyarray(image.dataobj).astype(int) for image in (truth, predicted, found))  # type: ignore[attr-defined]
    assert np.array_equal(e == 1, (t == 0) & (p > 0)) and np.array_equal(e == 2, (t > 0) & (p == 0))
    assert np.array_equal(e == 3, (t > 0) & (p > 0) & (t != p)) and (e > 0).any()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "expected a file to write"),
        (("--sheet", "s.jpg"), "ending in .png or .pdf"),
        (("--sheet", "s.png", "--slices", "0"), "1 to 60"),
        (("--sheet", "s.png", "--modality", "T9"), "'T9'"),
    ],
)
def test_impossible_exports_are_refused(
    options: tuple[str, ...],
    reason: str,
    quiz_run: QuizRun,
    subjects: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["review", "export", quiz_run.run, str(quiz_run.data), subjects[0], *options]) == 1
    assert reason in capsys.readouterr().err and not list(tmp_path.glob("s.*"))


def test_exports_take_no_place_of_data_and_of_one_another(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(quiz_run.data, tmp_path / "data")
    assert main(["evaluate", quiz_run.run, str(data), "--subject", subjects[0], "--keep"]) == 0
    command = ["review", "export", quiz_run.run, str(data), subjects[0]]
    label = data / "labelsTr" / f"{subjects[1]}.nii.gz"
    before, link, one = label.read_bytes(), tmp_path / "link.nii.gz", tmp_path / "one.nii.gz"
    link.symlink_to(label)
    for file in (label, link):
        assert main([*command, "--prediction", str(file)]) == 1
        assert "expected a new file to write to" in capsys.readouterr().err
    assert main([*command, "--prediction", str(one), "--errors", f"{tmp_path}/x/../one.nii.gz"]) == 1
    assert label.read_bytes() == before and not one.exists()


def test_voxels_are_counted_once_and_kept_beside_the_segmentations(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["review", "analyse", quiz_run.run, str(quiz_run.data)]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(found["cases"]) == subjects and found["failures"] == {} and found["outdated"] == []
    files = sorted((tmp_path / "checkpoints").glob("*/predictions/*/analysis/*.json"))
    assert [file.stem for file in files] == subjects
    before = [file.stat().st_mtime_ns for file in files]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "3 cases, voxels of the whole volumes" in shown and "limits of agreement" in shown
    assert [file.stat().st_mtime_ns for file in files] == before, "what is kept is not counted again"


def test_cases_that_the_model_was_trained_on_are_named_wherever_their_figures_are_reported(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [quiz_run.run, str(quiz_run.data)]
    trained = read_metadata(tmp_path / "checkpoints" / quiz_run.run / "best.safetensors").split["train"][0]
    assert trained not in subjects
    for command in ("cases", "analyse", "calibration"):
        assert main(["review", command, *model, "--json"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["trained_on"] == [] and captured.err == "", command
    assert main(["evaluate", *model, "--subject", trained, "--keep"]) == 0
    capsys.readouterr()
    for command, effect in (
        ("cases", f"{trained}: its scores there are too good"),
        ("analyse", f"1 of the 4 cases ({trained}): these figures are too good"),
        ("calibration", f"1 of the 4 cases ({trained}): these figures are too good"),
    ):
        assert main(["review", command, *model, "--json"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["trained_on"] == [trained], command
        assert " was trained on " + effect in captured.err, command


def test_a_case_that_cannot_be_read_is_named_and_the_others_are_counted(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (broken,) = (tmp_path / "checkpoints").glob(f"*/predictions/*/{subjects[1]}.nii.gz")
    content = broken.read_bytes()
    broken.write_bytes(b"nothing")
    command = ["review", "analyse", quiz_run.run, str(quiz_run.data), "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(found["cases"]) == [subjects[0], subjects[2]] and list(found["failures"]) == [subjects[1]]
    broken.write_bytes(content)
    assert main(command) == 0
    assert sorted(json.loads(capsys.readouterr().out)["cases"]) == subjects, "tried again"


def test_a_model_is_compared_with_another_checkpoint_of_its_run(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = str(tmp_path / "checkpoints" / quiz_run.run / "last.safetensors")
    command = ["review", "compare", quiz_run.run, last, str(quiz_run.data)]
    assert main(command) == 1
    assert "none of them shared" in capsys.readouterr().err
    assert main(["evaluate", last, str(quiz_run.data), "--subject", subjects[0], "--keep"]) == 0
    capsys.readouterr()
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "Dice, 1 case of both; A balls (best), B balls (last)" in shown and "Wilcoxon" in shown


def kept_folder(quiz_run: QuizRun, tmp_path: Path) -> Path:
    """The folder of the kept segmentations, whose files are named as their cases."""
    (folder,) = (tmp_path / "checkpoints" / quiz_run.run / "predictions").iterdir()
    return folder


def test_files_are_scored_as_the_segmentations_of_the_model_are(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kept segmentations as files have the scores that are kept beside them."""
    folder, data = kept_folder(quiz_run, tmp_path), str(quiz_run.data)
    kept = {id: json.loads((folder / f"{id}.json").read_text())["score"] for id in subjects}
    assert main(["review", "score", quiz_run.run, str(folder), data, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"] == kept and found["failures"] == {} and list(found["files"]) == subjects
    one = [quiz_run.run, str(folder / f"{subjects[1]}.nii.gz"), data]
    assert main(["review", "score", *one, "--case", subjects[1]]) == 0
    shown = capsys.readouterr().out
    assert f"{kept[subjects[1]]['dice']['bright']:.3f}" in shown and subjects[0] not in shown
    assert main(["review", "score", *one]) == 1 and "--case ID" in capsys.readouterr().err
    assert main(["review", "score", *one, "--case", "ball_99"]) == 1 and "ball_99" in capsys.readouterr().err


def test_a_folder_of_files_is_compared_with_a_model(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The label maps of the data set are right everywhere; one is missing, one named as no case."""
    files, data = tmp_path / "drawn", str(quiz_run.data)
    files.mkdir()
    for id in subjects[:2]:
        shutil.copy(quiz_run.data / "labelsTr" / f"{id}.nii.gz", files / f"{id}_drawn.nii.gz")
    shutil.copy(quiz_run.data / "labelsTr" / f"{subjects[2]}.nii.gz", files / "third.nii.gz")
    assert main(["review", "compare", quiz_run.run, str(files), data, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["models"] == ["balls", "drawn"] and found["cases"] == subjects[:2]
    assert [r["second"] for r in found["results"]] == [1.0] * 3 and found["results"][0]["second_better"] == 2
    assert "named as no case: third.nii.gz" in err
    assert main(["review", "compare", quiz_run.run, str(files), data]) == 0
    assert "Dice, 2 cases of both; A balls, B drawn" in capsys.readouterr().out
    (files / f"{subjects[0]}.nii.gz").write_bytes(b"no image")
    assert main(["review", "compare", quiz_run.run, str(files), data]) == 0
    assert f"{subjects[0]}: not scored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ("rater:ann", "expected a data set with several raters"),
        ("nothing-of-this-name", "nothing-of-this-name"),
        ("x" * 300, "found no file"),
        ("", "found no file ''"),
        ("balls", "B: expected another model than A"),
    ],
)
def test_what_is_no_model_and_no_segmentations_cannot_be_compared(
    other: str, reason: str, quiz_run: QuizRun, subjects: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", "compare", quiz_run.run, other, str(quiz_run.data)]) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(("source", "reason"), [("", "got nothing"), ("x" * 300, "expected a folder of segmentation")])
def test_what_names_no_segmentations_cannot_be_scored(
    source: str, reason: str, quiz_run: QuizRun, subjects: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", "score", quiz_run.run, source, str(quiz_run.data)]) == 1
    assert reason in capsys.readouterr().err


def test_status_is_1_where_no_segmentation_could_be_scored(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "segmentations"
    folder.mkdir()
    (folder / f"{subjects[0]}.nii.gz").write_bytes(b"no image")
    score = ["review", "score", quiz_run.run, str(folder), str(quiz_run.data)]
    assert main([*score, "--json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["failures"]) == [subjects[0]]
    assert main(score) == 1


@pytest.mark.parametrize("action", ["analyse", "calibration"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_status_is_1_where_no_kept_segmentation_can_be_used(
    action: str,
    options: list[str],
    quiz_run: QuizRun,
    subjects: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for id in subjects:
        (kept,) = (tmp_path / "checkpoints").glob(f"*/predictions/*/{id}.nii.gz")
        kept.write_bytes(b"no image")
    assert main(["review", action, quiz_run.run, str(quiz_run.data), *options]) == 1
    output, errors = capsys.readouterr()
    assert all(f"warning: {id}" in errors for id in subjects)
    assert not options or sorted(json.loads(output)["failures"]) == subjects


def test_notes_are_written_listed_and_exported(
    quiz_run: QuizRun, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [quiz_run.run, str(quiz_run.data)]
    assert main(["review", "note", *model, subjects[0], "--mark", "fix", "--comment", "the rim", "--at", "3,4,5"]) == 0
    assert main(["review", "note", *model, subjects[0]]) == 1
    assert main(["review", "note", *model, subjects[0], "--mark", "fix", "--at", "3,4,500"]) == 1
    assert "20 x 24 x 18" in capsys.readouterr().err
    for of_model in ([], model):
        assert main(["review", "notes", *of_model]) == 0
        shown = capsys.readouterr().out
        assert "3,4,5" in shown and "the rim" in shown and subjects[0] in shown
    assert main(["review", "notes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"][0]["voxel"] == [2, 3, 4]
    assert main(["review", "notes", "--mark", "accept"]) == 0 and "no notes" in capsys.readouterr().out
    assert main(["review", "notes", "--out", str(tmp_path / "notes.csv")]) == 0
    assert "the rim" in (tmp_path / "notes.csv").read_text()
    assert main(["review", "notes", quiz_run.run]) == 1 and "data set" in capsys.readouterr().err
