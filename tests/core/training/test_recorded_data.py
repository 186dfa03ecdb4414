"""A run is resumed on the data that it began with, or on changed data on request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.checkpointing.checkpoint import load
from core.checkpointing.metadata import ACCEPT_DATA, DATA_RECORD
from core.config import TrainConfig
from core.datasets.data_record import ChangedDataError, DataRecord
from core.errors import CheckpointError, DatasetError
from core.events import Event, Note
from core.training.experiment import train_run
from core.training.recorded_data import NOT_RECORDED
from tests.support import volume_files
from tests.support.balls import tiny, write_balls


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    data = write_balls(tmp_path / "data")
    return tiny(path=str(data), epochs=2, samples_train=4, samples_val=2, whole_every=0)


@pytest.fixture
def run(tmp_path: Path, config: TrainConfig) -> Path:
    """The folder of a run that was stopped after its first steps."""
    folder = tmp_path / "run"
    folder.mkdir()
    steps = iter(range(100))
    train_run(config, folder, lambda event: None, should_stop=lambda: next(steps) >= 7)  # six subjects are read first
    assert load(folder / "last.safetensors").metadata.progress["step"] == 2
    return folder


def resume(config: TrainConfig, run: Path) -> list[str]:
    """Resume the run to its end; returns its notes."""
    events: list[Event] = []
    train_run(config, run, events.append, resume=True)
    return [event.text for event in events if isinstance(event, Note)]


def change_affines(data: Path, factor: float) -> None:
    """Multiply the affines of all files."""
    for path in (*(data / "imagesTr").iterdir(), *(data / "labelsTr").iterdir()):
        image = volume_files.load(path)
        affine = image.affine * np.array([factor, factor, factor, 1])[:, None]
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def test_record_is_written_when_training_starts(run: Path, config: TrainConfig) -> None:
    record = DataRecord.load(run)
    assert record is not None and record.modalities == ("M0",) and len(record.subjects) == 6
    files = record.subjects["ball_1"].files
    assert files["M0"].file == "imagesTr/ball_1.nii.gz" and files["M0"].orientation == "LAS" and files["M0"].digest
    assert files["label map"].label_voxels.keys() == {"0", "1", "2"}


def test_unchanged_data_is_resumed_without_a_note(run: Path, config: TrainConfig) -> None:
    before = (run / DATA_RECORD).read_bytes()
    assert resume(config, run) == []
    assert (run / DATA_RECORD).read_bytes() == before
    assert load(run / "last.safetensors").metadata.progress["step"] == 4


@pytest.mark.slow
def test_subjects_that_were_added_since_are_named_and_left_out(run: Path, config: TrainConfig) -> None:
    data = Path(config.data.path)
    content = json.loads((data / "dataset.json").read_text())
    for part in ("imagesTr", "labelsTr"):
        shutil.copy(data / part / "ball_0.nii.gz", data / part / "ball_new.nii.gz")
    entry = {"image": "./imagesTr/ball_new.nii.gz", "label": "./labelsTr/ball_new.nii.gz"}
    (data / "dataset.json").write_text(json.dumps({**content, "training": [*content["training"], entry]}))
    assert resume(config, run) == ["note: not part of this run, as they were added after it began: ball_new"]


@pytest.mark.slow
def test_moved_data_is_resumed(run: Path, config: TrainConfig, tmp_path: Path) -> None:
    shutil.move(config.data.path, tmp_path / "moved")
    assert resume(config.with_values({"path": str(tmp_path / "moved")}), run) == []


@pytest.mark.slow
def test_changed_affines_are_refused_before_voxels_are_read(
    run: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_affines(Path(config.data.path), 2)
    monkeypatch.setattr("core.datasets.prepared_cache.load_subject", lambda *_: pytest.fail("voxels were read"))
    with pytest.raises(ChangedDataError, match=r"voxel size 1 x 1 x 1.5 mm to 2 x 2 x 3 mm.*runs resume RUN --force"):
        resume(config, run)


@pytest.mark.slow
def test_changed_affines_are_named_also_where_they_change_the_sub_volume(tmp_path: Path) -> None:
    data, folder = write_balls(tmp_path / "data"), tmp_path / "run"
    folder.mkdir()
    config = tiny(path=str(data), epochs=2, samples_train=4, samples_val=2, whole_every=0, sub_volume=())
    config = config.with_values({"spacing_mm": (1.0, 1.0, 1.5)})
    steps = iter(range(100))
    train_run(config, folder, lambda event: None, should_stop=lambda: next(steps) >= 7)
    change_affines(data, 2)
    with pytest.raises(ChangedDataError, match=r"voxel size 1 x 1 x 1\.5 mm to 2 x 2 x 3 mm"):
        resume(config, folder)


def swap_two_images(data: Path) -> None:
    first, second = data / "imagesTr" / "ball_0.nii.gz", data / "imagesTr" / "ball_2.nii.gz"
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(content[1])
    second.write_bytes(content[0])


def relabel(data: Path) -> None:
    path = data / "labelsTr" / "ball_3.nii.gz"
    image = volume_files.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[labels == 2] = 1
    nib.save(nib.Nifti1Image(labels, image.affine), path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (swap_two_images, r"imagesTr/ball_0.nii.gz, imagesTr/ball_2.nii.gz: content"),
        (relabel, r"labelsTr/ball_3.nii.gz: label values 0, 1, 2 to 0, 1"),
    ],
)
def test_changed_voxels_are_refused(run: Path, config: TrainConfig, change: Callable[[Path], None], named: str) -> None:
    checkpoint = (run / "last.safetensors").read_bytes()
    change(Path(config.data.path))
    with pytest.raises(ChangedDataError, match=named):
        resume(config, run)
    assert (run / "last.safetensors").read_bytes() == checkpoint


@pytest.mark.slow
def test_changed_data_is_resumed_on_request_once(run: Path, config: TrainConfig) -> None:
    change_affines(Path(config.data.path), 2)
    (run / ACCEPT_DATA).touch()
    (note,) = resume(config, run)
    assert "the data has changed since the run began" in note and "2 x 2 x 3 mm" in note
    assert not (run / ACCEPT_DATA).exists()
    record = DataRecord.load(run)
    assert record is not None and "2 x 2 x 3 mm" in record.accepted[0]
    change_affines(Path(config.data.path), 0.5)
    with pytest.raises(ChangedDataError, match=r"2 x 2 x 3 mm to 1 x 1 x 1\.5 mm"):
        resume(config, run)


@pytest.mark.slow
def test_run_of_an_earlier_version_is_recorded_from_its_resumption_on(run: Path, config: TrainConfig) -> None:
    (run / DATA_RECORD).unlink()
    assert resume(config, run) == [NOT_RECORDED]
    assert DataRecord.load(run) is not None


def test_damaged_record_is_refused_unless_accepted(run: Path, config: TrainConfig) -> None:
    (run / DATA_RECORD).write_text("{")
    with pytest.raises(DatasetError, match=r"data\.json: expected the record of the run's data.*--force"):
        resume(config, run)
    (run / ACCEPT_DATA).touch()
    resume(config, run)
    assert DataRecord.load(run) is not None


def test_other_class_names_are_refused_as_another_network(run: Path, config: TrainConfig) -> None:
    file = Path(config.data.path) / "dataset.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "labels": {"0": "background", "1": "bright", "2": "other"}}))
    with pytest.raises(CheckpointError, match="classes"):
        resume(config, run)


def test_record_of_another_label_value_is_compared(run: Path, config: TrainConfig) -> None:
    """The same classes under other values: the files are read into other classes."""
    data = Path(config.data.path)
    content = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(
        json.dumps({**content, "labels": {"0": "background", "2": "bright", "1": "dark"}})
    )
    with pytest.raises((ChangedDataError, CheckpointError), match="classes"):
        resume(config, run)


@pytest.mark.slow
def test_run_that_starts_anew_records_the_data_as_it_is_now(run: Path, config: TrainConfig) -> None:
    for name in ("last", "previous"):
        (run / f"{name}.safetensors").unlink(missing_ok=True)
    change_affines(Path(config.data.path), 2)
    train_run(config, run, lambda event: None)
    record = DataRecord.load(run)
    assert record is not None
    assert record.subjects["ball_0"].files["M0"].geometry.spacing_mm == pytest.approx((2, 2, 3))
