"""Stored predictions: round trip, location, staleness, damage and concurrent writers."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from core import runs
from core.checkpointing.checkpoint import load, save
from core.checkpointing.metadata import CheckpointMetadata, read_metadata
from core.datasets import Dataset, LoadedSubject, load_subject, open_dataset
from core.datasets.layouts.recipe import Repair
from core.datasets.saved_recipes import add_repairs
from core.errors import RunError, UserError
from core.evaluation.metrics import SubjectScore
from core.evaluation.subject_prediction import SubjectPrediction
from core.imaging.volume import read_label
from core.runs.launch import create_run
from core.runs.predictions import Prediction, predictions_folder, read_predictions, save_prediction
from tests.support.balls import SPACING_MM, tiny, write_balls

if TYPE_CHECKING:
    from tests.core.conftest import BallRun

SCORE = SubjectScore(
    {"bright": 0.9, "dark": math.nan}, {"bright": 1.5, "dark": math.nan}, {"bright": 0.5, "dark": math.nan}, ("dark",),
    {"bright": {"truth": 0.3, "prediction": 0.25}, "dark": {"truth": 0.0, "prediction": 0.1}},
)  # fmt: skip
WARNINGS = ("its voxels are large",)


class Workspace:
    """A checkpoints root, a checkpoint and a data set that a test may change."""

    def __init__(self, folder: Path, ball_run: BallRun) -> None:
        self.root, self.data = folder / "root", write_balls(folder / "data", 3)
        self.root.mkdir()
        self.checkpoint = folder / "elsewhere" / "model.safetensors"
        self.checkpoint.parent.mkdir()
        shutil.copy(ball_run.checkpoint, self.checkpoint)

    @property
    def dataset(self) -> Dataset:
        return open_dataset(self.data)

    @property
    def metadata(self) -> CheckpointMetadata:
        return read_metadata(self.checkpoint)

    @property
    def folder(self) -> Path:
        return predictions_folder(self.root, self.checkpoint, self.data)

    def subject(self, id: str) -> LoadedSubject:
        return load_subject(self.dataset, id)

    def save(self, id: str, score: SubjectScore | None = SCORE) -> Path:
        loaded = self.subject(id)
        assert loaded.label is not None
        result = SubjectPrediction(loaded, loaded.label, score, WARNINGS, {"resampled_mm": [1, 1, 1]})
        return save_prediction(self.folder, self.metadata, self.dataset, result)

    def read(self) -> dict[str, object]:
        return dict(read_predictions(self.root, self.checkpoint, self.data))


@pytest.fixture
def workspace(tmp_path: Path, ball_run: BallRun) -> Workspace:
    return Workspace(tmp_path, ball_run)


@pytest.mark.slow
def test_saved_prediction_is_read_back(workspace: Workspace) -> None:
    assert workspace.read() == {}
    file = workspace.save("ball_1")  # stored as LAS
    workspace.save("ball_0", None)
    found = read_predictions(workspace.root, workspace.checkpoint, workspace.data)
    assert found.keys() == {"ball_0", "ball_1"} and found["ball_0"].score is None
    kept = found["ball_1"]
    assert kept.warnings == WARNINGS and kept.settings == {"resampled_mm": [1, 1, 1]}
    assert kept.file == file and not kept.stale and abs(kept.made_at - file.stat().st_mtime) < 60
    assert (kept.epoch, kept.step) == (16, workspace.metadata.progress["step"])
    score = kept.score
    assert score is not None and score.missed == ("dark",) and score.volume_ml == SCORE.volume_ml
    assert score.dice["bright"] == 0.9 and math.isnan(score.dice["dark"]) and math.isnan(score.hd95_mm["dark"])
    loaded, written = workspace.subject("ball_1"), read_label(file)
    assert written.stored == loaded.stored and written.stored.axis_codes == ("L", "A", "S")
    index = workspace.metadata.label_space.to_index(written.data[0])
    np.testing.assert_array_equal(index, np.asarray(loaded.label))
    strict = json.loads((workspace.folder / "ball_1.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert strict["score"]["dice"]["dark"] is None


def test_predictions_of_a_run_are_in_its_folder_and_deleted_with_it(workspace: Workspace) -> None:
    run = create_run(workspace.root, tiny(path=str(workspace.data)), "net")
    runs.request_stop(workspace.root, run.name)
    for name in ("best", "last"):
        shutil.copy(workspace.checkpoint, run / f"{name}.safetensors")
    best, last = (
        predictions_folder(workspace.root, run / f"{n}.safetensors", workspace.data) for n in ("best", "last")
    )
    assert best.parent == last.parent == run / "predictions" and best != last
    workspace.checkpoint = run / "best.safetensors"
    workspace.save("ball_0")
    assert workspace.read().keys() == {"ball_0"}
    assert [r.id for r in runs.list_runs(workspace.root)] == [run.name]
    runs.delete(workspace.root, run.name)
    assert not run.exists()


def test_predictions_of_another_file_are_under_the_root_and_not_listed_as_runs(workspace: Workspace) -> None:
    workspace.save("ball_0")
    assert workspace.folder.parent.parent == workspace.root / "predictions"
    assert runs.list_runs(workspace.root) == []
    other = workspace.checkpoint.parent / "other.safetensors"
    shutil.copy(workspace.checkpoint, other)
    assert read_predictions(workspace.root, other, workspace.data) == {}


def test_prediction_is_stale_if_the_checkpoint_changed_not_if_touched(workspace: Workspace) -> None:
    workspace.save("ball_0")
    os.utime(workspace.checkpoint, (1, 1))
    assert not read_predictions(workspace.root, workspace.checkpoint, workspace.data)["ball_0"].stale
    checkpoint = load(workspace.checkpoint)
    progress = {**checkpoint.metadata.progress, "elapsed_s": 1e6}
    save(workspace.checkpoint, replace(checkpoint, metadata=replace(checkpoint.metadata, progress=progress)))
    assert read_predictions(workspace.root, workspace.checkpoint, workspace.data)["ball_0"].stale
    workspace.save("ball_0")
    assert not read_predictions(workspace.root, workspace.checkpoint, workspace.data)["ball_0"].stale


@pytest.mark.parametrize(
    "change",
    [
        {"training": [{"image": "./imagesTr/ball_0.nii.gz", "label": "./labelsTr/ball_1.nii.gz"}]},
        {"labels": {"0": "background", "1": "dark", "2": "bright"}},
        {"modality": {"0": "M1", "1": "M0"}},
    ],
)
def test_prediction_from_other_files_than_the_data_set_names_now_is_stale(
    workspace: Workspace, change: dict[str, Any]
) -> None:
    """No file has changed; the description of the data set gives the subject another channel, label map or values."""
    if "modality" in change:
        write_balls(workspace.data, 3, channels=2)
    file = workspace.data / "dataset.json"
    content = json.loads(file.read_text())
    workspace.save("ball_0")
    file.write_text(json.dumps({**content, **change}))
    found = read_predictions(workspace.root, workspace.checkpoint, workspace.data)
    assert found["ball_0"].stale and "other files" in found["ball_0"].stale_reason


def test_prediction_is_not_stale_if_its_data_set_is_opened_through_a_link(workspace: Workspace, tmp_path: Path) -> None:
    workspace.save("ball_0")
    link = tmp_path / "link"
    link.symlink_to(workspace.data, target_is_directory=True)
    assert not read_predictions(workspace.root, workspace.checkpoint, link)["ball_0"].stale


def as_version_0_1(workspace: Workspace, id: str) -> Prediction:
    """A prediction whose record lacks what version 0.1 did not write."""
    workspace.save(id)
    path = workspace.folder / f"{id}.json"
    record = json.loads(path.read_text())
    for name in ("layout", "sources", "warnings", "settings"):
        del record[name]
    path.write_text(json.dumps(record))
    return read_predictions(workspace.root, workspace.checkpoint, workspace.data)[id]


def test_record_of_an_earlier_version_is_read(workspace: Workspace) -> None:
    kept = as_version_0_1(workspace, "ball_0")
    assert not kept.stale and kept.warnings == () and kept.settings == {}


@pytest.mark.parametrize(("unit", "shear"), [("micron", 0.0), ("meter", 0.0), ("mm", 0.5)])
def test_prediction_whose_lengths_an_earlier_version_misread_is_stale(
    workspace: Workspace, unit: str, shear: float
) -> None:
    for part in ("imagesTr", "labelsTr"):
        path = workspace.data / part / "ball_0.nii.gz"
        image = nib.load(path)
        affine = np.diag([*SPACING_MM, 1.0])
        affine[0, 1] = shear
        changed = nib.Nifti1Image(np.asarray(image.dataobj), affine)  # type: ignore[attr-defined]
        changed.header.set_xyzt_units(unit)
        nib.save(changed, path)
    kept = as_version_0_1(workspace, "ball_0")
    assert kept.stale and "unit" in kept.stale_reason and kept.score == SCORE
    workspace.save("ball_0")
    assert not read_predictions(workspace.root, workspace.checkpoint, workspace.data)["ball_0"].stale


def test_prediction_is_stale_if_an_image_of_its_subject_changed(workspace: Workspace) -> None:
    for id in ("ball_0", "ball_1"):
        workspace.save(id)
    shutil.copy(workspace.data / "imagesTr" / "ball_2.nii.gz", workspace.data / "imagesTr" / "ball_0.nii.gz")
    found = read_predictions(workspace.root, workspace.checkpoint, workspace.data)
    assert {id: kept.stale for id, kept in found.items()} == {"ball_0": True, "ball_1": False}


def test_prediction_is_stale_if_its_subject_is_mended_in_another_way(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_SETTINGS", str(tmp_path / "settings"))
    for id in ("ball_0", "ball_1"):
        workspace.save(id)
    add_repairs(workspace.data, [Repair("take_qform", "ball_0")])
    found = read_predictions(workspace.root, workspace.checkpoint, workspace.data)
    assert {id: kept.stale for id, kept in found.items()} == {"ball_0": True, "ball_1": False}


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "ball_0.json").write_text("{"),
        lambda folder: (folder / "ball_0.json").write_text("[]"),
        lambda folder: (folder / "ball_0.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "ball_0.json").unlink(),
        lambda folder: (folder / "ball_0.nii.gz").unlink(),
        lambda folder: (folder / "ball_0.json").rename(folder / "ball_9.json"),
        lambda folder: _change(folder, version=99),
        lambda folder: _change(folder, score={"dice": {}}),
        lambda folder: _change(folder, checkpoint=None),
        lambda folder: _change(folder, inputs=[1]),
    ],
    ids=range(10),
)
def test_damaged_prediction_is_left_out(workspace: Workspace, damage: Callable[[Path], object]) -> None:
    workspace.save("ball_0")
    workspace.save("ball_1")
    damage(workspace.folder)
    assert workspace.read().keys() == {"ball_1"}


def _change(folder: Path, **values: object) -> None:
    record = json.loads((folder / "ball_0.json").read_text())
    (folder / "ball_0.json").write_text(json.dumps({**record, **values}))


@pytest.mark.parametrize(
    "id", ["../../up", "..", ".", "a/b", "häß lich", "x" * 300, "ä" * 100, "sub.01", "%2E", ".lock"]
)
def test_every_subject_id_has_a_distinct_file(workspace: Workspace, id: str) -> None:
    loaded = replace(workspace.subject("ball_0"), id=id)
    subject = replace(workspace.dataset.subject("ball_0"), id=id)
    dataset = replace(workspace.dataset, subjects=(*workspace.dataset.subjects, subject))
    assert loaded.label is not None
    result = SubjectPrediction(loaded, loaded.label)
    file = save_prediction(workspace.folder, workspace.metadata, dataset, result)
    assert file.resolve().parent == workspace.folder.resolve() and not file.name.startswith(".")
    workspace.save("ball_0")
    assert workspace.read().keys() == {id, "ball_0"}


def test_killed_write_leaves_no_prediction(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.save("ball_0")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("core.runs.predictions.files.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        workspace.save("ball_0", None)
    assert workspace.read() == {}, "the old score with the new label map"


def test_folder_that_cannot_be_created_is_an_error(workspace: Workspace) -> None:
    (workspace.root / "predictions").write_text("a file")
    with pytest.raises(RunError, match=r"predictions/.*: cannot be created"):
        workspace.save("ball_0")


def test_full_disk_is_an_error_and_leaves_no_prediction(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.save("ball_0")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        workspace.save("ball_0")
    assert workspace.read() == {}
    assert [p.name for p in workspace.folder.iterdir() if p.name.endswith((".part", ".tmp"))] == []


def _write_repeatedly(root: Path, checkpoint: Path, data: Path, value: int) -> None:
    dataset, metadata = open_dataset(data), read_metadata(checkpoint)
    loaded = load_subject(dataset, "ball_0")
    for _ in range(8):
        prediction = np.full(loaded.geometry.shape, value, np.uint8)
        score = replace(SCORE, dice={"bright": float(value), "dark": 0.0})
        result = SubjectPrediction(loaded, prediction, score)
        save_prediction(predictions_folder(root, checkpoint, data), metadata, dataset, result)


@pytest.mark.long
@pytest.mark.slow
def test_concurrent_writers_leave_one_consistent_prediction(workspace: Workspace) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_repeatedly, args=(workspace.root, workspace.checkpoint, workspace.data, value))
        for value in (1, 2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    (kept,) = read_predictions(workspace.root, workspace.checkpoint, workspace.data).values()
    assert kept.score is not None
    assert set(np.unique(read_label(kept.file).data)) == {int(kept.score.dice["bright"])}
