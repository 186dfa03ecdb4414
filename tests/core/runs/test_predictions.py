"""Kept segmentations: what comes back, where they lie, when they are stale, and what a damaged one costs."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core import runs
from core.checkpointing.checkpoint import load, save
from core.checkpointing.metadata import Description, read_description
from core.datasets import Dataset, LoadedSubject, load_subject, open_dataset
from core.errors import RunError, UserError
from core.evaluation.metrics import SubjectScore
from core.imaging.volume import read_label
from core.runs.launch import create_run
from core.runs.predictions import keep_prediction, kept_predictions, predictions_folder
from tests.support.balls import tiny, write_balls

if TYPE_CHECKING:
    from tests.core.conftest import BallRun

SCORE = SubjectScore(
    {"bright": 0.9, "dark": math.nan}, {"bright": 1.5, "dark": math.nan}, {"bright": 0.5, "dark": math.nan}, ("dark",),
    {"bright": {"truth": 0.3, "prediction": 0.25}, "dark": {"truth": 0.0, "prediction": 0.1}},
)  # fmt: skip


class Place:
    """A root of runs with a checkpoint in it and a data set of its own, that can be written to and changed."""

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
    def description(self) -> Description:
        return read_description(self.checkpoint)

    @property
    def folder(self) -> Path:
        return predictions_folder(self.root, self.checkpoint, self.data)

    def subject(self, id: str) -> LoadedSubject:
        return load_subject(self.dataset, id)

    def keep(self, id: str, score: SubjectScore | None = SCORE) -> Path:
        loaded = self.subject(id)
        assert loaded.label is not None
        return keep_prediction(self.folder, self.description, self.dataset, loaded, loaded.label, score)

    def kept(self) -> dict[str, object]:
        return dict(kept_predictions(self.root, self.checkpoint, self.data))


@pytest.fixture
def place(tmp_path: Path, ball_run: BallRun) -> Place:
    return Place(tmp_path, ball_run)


def test_what_is_kept_comes_back(place: Place) -> None:
    assert place.kept() == {}
    file = place.keep("ball_1")  # stored as LAS
    place.keep("ball_0", None)
    found = kept_predictions(place.root, place.checkpoint, place.data)
    assert found.keys() == {"ball_0", "ball_1"} and found["ball_0"].score is None
    kept = found["ball_1"]
    assert kept.file == file and not kept.stale and abs(kept.made_at - file.stat().st_mtime) < 60
    assert (kept.epoch, kept.step) == (16, place.description.progress["step"])
    score = kept.score
    assert score is not None and score.missed == ("dark",) and score.volume_ml == SCORE.volume_ml
    assert score.dice["bright"] == 0.9 and math.isnan(score.dice["dark"]) and math.isnan(score.hd95_mm["dark"])
    loaded, written = place.subject("ball_1"), read_label(file)
    assert written.stored == loaded.stored and written.stored.axis_codes == ("L", "A", "S")
    index = place.description.label_space.to_index(written.data[0])
    np.testing.assert_array_equal(index, np.asarray(loaded.label))
    strict = json.loads((place.folder / "ball_1.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert strict["score"]["dice"]["dark"] is None


def test_those_of_a_run_lie_in_its_folder_and_go_with_it(place: Place) -> None:
    run = create_run(place.root, tiny(path=str(place.data)), "net")
    runs.request_stop(place.root, run.name)
    for name in ("best", "last"):
        shutil.copy(place.checkpoint, run / f"{name}.safetensors")
    best, last = (predictions_folder(place.root, run / f"{n}.safetensors", place.data) for n in ("best", "last"))
    assert best.parent == last.parent == run / "predictions" and best != last
    place.checkpoint = run / "best.safetensors"
    place.keep("ball_0")
    assert place.kept().keys() == {"ball_0"}
    assert [r.id for r in runs.list_runs(place.root)] == [run.name]
    runs.delete(place.root, run.name)
    assert not run.exists()


def test_those_of_another_file_lie_under_the_root_and_are_no_run(place: Place) -> None:
    place.keep("ball_0")
    assert place.folder.parent.parent == place.root / "predictions"
    assert runs.list_runs(place.root) == []
    other = place.checkpoint.parent / "other.safetensors"
    shutil.copy(place.checkpoint, other)
    assert kept_predictions(place.root, other, place.data) == {}


def test_a_changed_checkpoint_makes_them_stale_and_a_touched_one_does_not(place: Place) -> None:
    place.keep("ball_0")
    os.utime(place.checkpoint, (1, 1))
    assert not kept_predictions(place.root, place.checkpoint, place.data)["ball_0"].stale
    checkpoint = load(place.checkpoint)
    progress = {**checkpoint.description.progress, "elapsed_s": 1e6}
    save(place.checkpoint, replace(checkpoint, description=replace(checkpoint.description, progress=progress)))
    assert kept_predictions(place.root, place.checkpoint, place.data)["ball_0"].stale
    place.keep("ball_0")
    assert not kept_predictions(place.root, place.checkpoint, place.data)["ball_0"].stale


def test_a_changed_image_makes_its_own_stale(place: Place) -> None:
    for id in ("ball_0", "ball_1"):
        place.keep(id)
    shutil.copy(place.data / "imagesTr" / "ball_2.nii.gz", place.data / "imagesTr" / "ball_0.nii.gz")
    found = kept_predictions(place.root, place.checkpoint, place.data)
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
def test_a_damaged_one_is_left_out(place: Place, damage: Callable[[Path], object]) -> None:
    place.keep("ball_0")
    place.keep("ball_1")
    damage(place.folder)
    assert place.kept().keys() == {"ball_1"}


def _change(folder: Path, **values: object) -> None:
    record = json.loads((folder / "ball_0.json").read_text())
    (folder / "ball_0.json").write_text(json.dumps({**record, **values}))


@pytest.mark.parametrize(
    "id", ["../../up", "..", ".", "a/b", "häß lich", "x" * 300, "ä" * 100, "sub.01", "%2E", ".lock"]
)
def test_any_id_has_a_file_of_its_own(place: Place, id: str) -> None:
    loaded = replace(place.subject("ball_0"), id=id)
    subject = replace(place.dataset.subject("ball_0"), id=id)
    dataset = replace(place.dataset, subjects=(*place.dataset.subjects, subject))
    assert loaded.label is not None
    file = keep_prediction(place.folder, place.description, dataset, loaded, loaded.label, None)
    assert file.resolve().parent == place.folder.resolve() and not file.name.startswith(".")
    place.keep("ball_0")
    assert place.kept().keys() == {id, "ball_0"}


def test_the_order_of_writing_survives_a_kill(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.keep("ball_0")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("core.runs.predictions.files.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        place.keep("ball_0", None)
    assert place.kept() == {}, "no old score beside a new segmentation"


def test_a_place_that_cannot_be_written(place: Place) -> None:
    (place.root / "predictions").write_text("a file")
    with pytest.raises(RunError, match=r"predictions/.*: cannot be made"):
        place.keep("ball_0")


def test_a_full_disk_is_one_line_and_no_prediction(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.keep("ball_0")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        place.keep("ball_0")
    assert place.kept() == {}
    assert [p.name for p in place.folder.iterdir() if p.name.endswith((".part", ".tmp"))] == []


def _write_often(root: Path, checkpoint: Path, data: Path, value: int) -> None:
    dataset, description = open_dataset(data), read_description(checkpoint)
    loaded = load_subject(dataset, "ball_0")
    for _ in range(15):
        prediction = np.full(loaded.geometry.shape, value, np.uint8)
        score = replace(SCORE, dice={"bright": float(value), "dark": 0.0})
        keep_prediction(predictions_folder(root, checkpoint, data), description, dataset, loaded, prediction, score)


def test_writers_at_the_same_time_leave_one_of_theirs(place: Place) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_often, args=(place.root, place.checkpoint, place.data, value)) for value in (1, 2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    (kept,) = kept_predictions(place.root, place.checkpoint, place.data).values()
    assert kept.score is not None
    assert set(np.unique(read_label(kept.file).data)) == {int(kept.score.dice["bright"])}
