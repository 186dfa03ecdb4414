"""What is compared with the predictions of a model on the Review page: raters, files, folders, uploads, kept epochs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core.cli import main
from core.datasets.saved_descriptions import save_description
from core.runs.predictions import read_predictions
from tests.support.app_pages import button_labels, click, component_data, open_page, run_page, texts
from tests.support.background_jobs import run_at_once
from tests.support.kept_epochs import keep_epochs
from tests.support.quiz_runs import QuizRun, use_copy
from tests.support.volume_files import load, write_nifti
from ui.shared import uploads

pytestmark = pytest.mark.slow  # the run is trained once


@pytest.fixture
def root(quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained run, whose held-out subjects are segmented; commands run in this process."""
    run_at_once(monkeypatch)
    return use_copy(quiz_run, tmp_path, monkeypatch)


@pytest.fixture
def data_root(quiz_run: QuizRun, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root of its own, whose folder ``found`` has a shifted label map for each held-out case but the last."""
    folder = tmp_path / "data"
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(folder))
    for id in held_out(quiz_run, root)[:-1]:
        write_nifti(folder / "found" / f"{id}_manual.nii.gz", *shifted(quiz_run, id))
    write_nifti(folder / "found" / "someone.nii.gz", *shifted(quiz_run, "ball_0"))
    return folder


def held_out(quiz_run: QuizRun, root: Path) -> list[str]:
    return sorted(read_predictions(root, root / quiz_run.run / "best.safetensors", quiz_run.data))


def shifted(quiz_run: QuizRun, id: str) -> tuple[np.ndarray, np.ndarray]:
    """The label map of a case, shifted by a voxel along j, and its affine."""
    image = load(quiz_run.data / "labelsTr" / f"{id}.nii.gz")
    return np.roll(np.asarray(image.dataobj), 1, axis=1), image.affine


def dice_of_shifted(quiz_run: QuizRun, id: str, value: int) -> float:
    moved, _ = shifted(quiz_run, id)
    truth = np.asarray(load(quiz_run.data / "labelsTr" / f"{id}.nii.gz").dataobj)
    return float(2 * np.sum((truth == value) & (moved == value)) / (np.sum(truth == value) + np.sum(moved == value)))


def tables(app: AppTest) -> str:
    return "\n".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]


def test_a_folder_of_files_is_shown_scored_and_tested_against_the_model(
    root: Path, data_root: Path, quiz_run: QuizRun
) -> None:
    ids = held_out(quiz_run, root)
    values: dict[str, Any] = {"model": quiz_run.run, "with": "folder", "folder": "found"}
    app = open_page("review", **values, case=ids[0])
    assert not app.error and component_data(app, "grid")["rows"] == ["truth", "prediction", "second prediction"]
    assert f"2 of {len(component_ids(quiz_run))} cases have a file" in texts(app)
    assert "Named as no case: someone.nii.gz" in texts(app)
    kept = read_predictions(root, root / quiz_run.run / "best.safetensors", quiz_run.data)[ids[0]].score
    assert kept is not None
    first, second = kept.dice["bright"], dice_of_shifted(quiz_run, ids[0], 1)
    word = "better" if second > first else "worse"
    shown = tables(app)
    assert f"{first:.3f}" in shown and f"{second:.3f}" in shown
    assert f"{second - first:+.3f} {word}".replace("-", "\N{MINUS SIGN}") in shown
    assert all(label in shown for label in ("Surface Dice, 1 mm", "HD95 (mm)", "ASD (mm)"))
    app = open_page("review", **values, case=ids[0], view="models")
    assert "Score 2 cases" in button_labels(app) and not app.get("plotly_chart")
    app = click(app, "Score 2 cases")
    assert not app.error and "Second are the files in found" in texts(app) and "Wilcoxon" in texts(app)
    assert len(app.get("plotly_chart")) == 1 and "too few for a test" in texts(app)
    mean = np.mean([dice_of_shifted(quiz_run, id, 1) for id in ids[:2]])
    assert f"{mean:.3f}" in tables(app)
    app = open_page("review", **values, case=ids[-1])
    assert "This one has none" in texts(app) and set(component_data(app, "grid")["layers"]) == {"truth", "prediction"}
    assert "inside" in open_page("review", **{**values, "folder": "../x"}).error[0].value


def component_ids(quiz_run: QuizRun) -> list[Path]:
    return list((quiz_run.data / "imagesTr").glob("*.nii.gz"))


def test_label_maps_of_another_rater_are_scored_and_tested(
    root: Path, quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SEGMENTARIUM_SETTINGS", str(tmp_path / "settings"))
    drawn = tmp_path / "data" / "drawn"
    for case, raters in (("ball_0", ("ann", "ben")), ("ball_1", ("ann",))):
        (drawn / case).mkdir(parents=True)
        shutil.copy(quiz_run.data / "imagesTr" / f"{case}.nii.gz", drawn / case / "image.nii.gz")
        shutil.copy(quiz_run.data / "labelsTr" / f"{case}.nii.gz", drawn / case / "seg_ann.nii.gz")
        if "ben" in raters:
            write_nifti(drawn / case / "seg_ben.nii.gz", *shifted(quiz_run, case))
    described = {"images": {"M0": "{case}/image.nii.gz"}, "labels": "{case}/seg_{rater}.nii.gz"}
    save_description(drawn, {**described, "classes": {"background": 0, "bright": 1, "dark": 2}})
    assert main(["evaluate", quiz_run.run, str(drawn), "--split", "all", "--keep"]) == 0
    values: dict[str, Any] = {"model": quiz_run.run, "data": "drawn", "with": "rater:ben"}
    app = open_page("review", **values, case="ball_0")
    scene = component_data(app, "grid")
    assert not app.error and scene["rows"] == ["truth", "prediction", "second prediction"]
    assert scene["titles"] == {"second prediction": "rater ben"}
    assert "Compared with the label map by ben; the reference is by ann." in texts(app)
    assert f"{dice_of_shifted(quiz_run, 'ball_0', 2):.3f}" in tables(app)
    app = click(open_page("review", **values, case="ball_0", view="models"), "Score 1 case")
    assert not app.error and "Second are the label maps of ben" in texts(app)
    app = open_page("review", **values, case="ball_1")
    assert set(component_data(app, "grid")["layers"]) == {"truth", "prediction"}
    assert "ben has drawn no label map of this case" in texts(app)


def test_segmentation_file_on_another_grid_is_refused_with_the_difference(
    root: Path, data_root: Path, quiz_run: QuizRun
) -> None:
    subject = held_out(quiz_run, root)[0]
    values: dict[str, Any] = {"model": quiz_run.run, "case": subject, "with": "file"}
    app = open_page("review", **values, file=f"found/{subject}_manual.nii.gz")
    assert "second prediction" in component_data(app, "grid")["layers"] and not app.error
    assert f"{dice_of_shifted(quiz_run, subject, 1):.3f}" in tables(app)
    image = nib.load(data_root / "found" / f"{subject}_manual.nii.gz")
    write_nifti(data_root / "other.nii.gz", np.asanyarray(image.dataobj)[:-1], image.affine)  # type: ignore[attr-defined]
    app = open_page("review", **values, file="other.nii.gz")
    assert "expected shape 20x24x18" in app.error[0].value and "19x24x18" in app.error[0].value
    assert set(component_data(app, "grid")["layers"]) == {"truth", "prediction"}
    assert len(app.error) == 1 and "Second:" not in texts(app)
    assert "inside" in open_page("review", **values, file="../x.nii.gz").error[0].value


@pytest.mark.long
def test_uploads_belong_to_the_cases_of_their_names_or_to_the_case_they_are_chosen_for(
    root: Path, quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ids = tmp_path / "uploads", held_out(quiz_run, root)
    monkeypatch.setattr(uploads, "session_folder", lambda: folder)
    session = {uploads.SESSION_ID: "0a0a0a0a"}
    values: dict[str, Any] = {"model": quiz_run.run, "with": "upload"}
    app = open_page("review", session, **values, case=ids[0])
    assert "Upload label maps of the cases" in texts(app)
    write_nifti(folder / "1" / f"{ids[0]}.nii.gz", *shifted(quiz_run, ids[0]))
    other = write_nifti(folder / "2" / "mine.nii.gz", *shifted(quiz_run, ids[1]))
    app = open_page("review", session, **values, case=ids[0])
    assert not app.error and "second prediction" in component_data(app, "grid")["layers"]
    assert f"{dice_of_shifted(quiz_run, ids[0], 1):.3f}" in tables(app)
    app = open_page("review", session, **values, case=ids[1])
    assert "second prediction" not in component_data(app, "grid")["layers"], "no file is named as this case"
    run_page(app.selectbox(key=f"review_with_upload-{ids[1]}").set_value(str(other)))
    assert "second prediction" in component_data(app, "grid")["layers"] and not app.error
    assert f"{dice_of_shifted(quiz_run, ids[1], 1):.3f}" in tables(app)
    click(app, "Delete mine.nii.gz".replace(".", "\\."))
    assert not other.exists() and "second prediction" not in component_data(app, "grid")["layers"]


def test_kept_epochs_can_be_compared_with_the_model(root: Path, quiz_run: QuizRun) -> None:
    keep_epochs(root / quiz_run.run)
    second: dict[str, Any] = {"with": f"{quiz_run.run}@epoch-0003"}
    ids = held_out(quiz_run, root)
    app = open_page("review", model=quiz_run.run, case=ids[0], **second)
    assert {"balls, epoch 1", "balls, epoch 3"} <= set(app.selectbox(key="review_with").options)
    assert "Segment this case with it" in button_labels(app) and "Second:" not in texts(app)
    epoch = root / quiz_run.run / "epoch-0003.safetensors"
    assert main(["evaluate", str(epoch), str(quiz_run.data), "--subject", ids[0], "--keep"]) == 0
    app = open_page("review", model=quiz_run.run, case=ids[0], **second)
    scene = component_data(app, "grid")
    assert scene["rows"] == ["truth", "prediction", "second prediction"]
    assert scene["titles"] == {"second prediction": "epoch 3"} and "Second: balls, epoch 3" in texts(app)
    kept = read_predictions(root, epoch, quiz_run.data)[ids[0]].score
    assert kept is not None and f"{kept.dice['bright']:.3f}" in tables(app)
    app = open_page("review", model=quiz_run.run, view="models", **second)
    assert not app.error and "The second model is balls, epoch 3" in texts(app) and "Wilcoxon" in texts(app)
    gone: dict[str, Any] = {"with": f"{quiz_run.run}@epoch-0009"}
    app = open_page("review", model=quiz_run.run, case=ids[0], **gone)
    assert any("There is no value called" in str(warning.value) for warning in app.warning)


@pytest.mark.long
def test_surfaces_are_made_then_downloaded(root: Path, quiz_run: QuizRun) -> None:
    app = open_page("review", model=quiz_run.run)
    labels = [e.proto.label for e in app.get("download_button")]  # type: ignore[attr-defined]
    assert "Surfaces (STL)" not in labels and {"Make surfaces (STL)", "Make surfaces (PLY)"} <= set(button_labels(app))
    app = click(app, "Make surfaces (STL)")
    labels = [e.proto.label for e in app.get("download_button")]  # type: ignore[attr-defined]
    assert "Surfaces (STL)" in labels and "Make surfaces (STL)" not in button_labels(app) and not app.error
    assert "Surfaces (PLY)" not in labels and "Make surfaces (PLY)" in button_labels(app)
