"""NaN outside the field of view: refused with the option that reads it as 0, and read as 0 with this option."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.cli import main
from core.config import TrainConfig
from core.datasets import DataOptions, load_subject, open_dataset
from core.datasets.doctor import check
from core.datasets.single_case import read_images
from core.errors import VolumeError
from core.events import Event, Ready
from core.imaging.volume import read_image, read_label
from core.runs.launch import resolve_config
from core.training.experiment import train_run
from tests.support.balls import tiny
from tests.support.heads import head, write_heads
from tests.support.volume_files import write_nifti

READ_AS_ZERO = DataOptions(nan_is_zero=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five cases; images of two have NaN in the first slices, and so has a label map."""
    folder = write_heads(tmp_path / "data", 5)
    for n in (1, 2):
        write_nifti(folder / "imagesTr" / f"case_{n}.nii.gz", without_first_slices(head(n)[0]), np.eye(4))
    write_nifti(folder / "labelsTr" / "case_2.nii.gz", without_first_slices(head(2)[1]), np.eye(4))
    return folder


def without_first_slices(array: np.ndarray) -> np.ndarray:
    outside = array.astype(np.float32)
    outside[:3] = np.nan
    return outside


def test_refusal_names_the_option(folder: Path) -> None:
    with pytest.raises(VolumeError, match=r"got NaN in 1,728 voxels of 13,824; .* \(--nan-is-zero\)"):
        load_subject(open_dataset(folder), "case_1")
    with pytest.raises(VolumeError, match=r"labels, got NaN in 1,728 voxels of 13,824; .* \(--nan-is-zero\)"):
        read_label(folder / "labelsTr" / "case_2.nii.gz")
    errors = check(folder).with_severity("error")
    assert [e.subject for e in errors] == ["case_1", "case_2", "case_2"]
    assert all("--nan-is-zero" in e.fix for e in errors)


def test_nan_is_read_as_zero_in_images_and_labels(folder: Path) -> None:
    loaded = load_subject(open_dataset(folder, options=READ_AS_ZERO), "case_2")
    image, label = head(2)
    image[:3], label[:3] = 0, 0
    assert np.array_equal(loaded.image[0], image) and loaded.image.dtype == np.float32
    assert loaded.label is not None and np.array_equal(loaded.label, label)
    assert loaded.nan_voxels == 2 * 1728
    assert load_subject(open_dataset(folder, options=READ_AS_ZERO), "case_5").nan_voxels == 0


def test_doctor_notes_how_much_is_read_as_zero(folder: Path) -> None:
    report = check(folder, options=READ_AS_ZERO)
    assert report.ok and not report.with_severity("warning")
    assert [f.message for f in report.with_severity("note")] == [
        "NaN is read as 0 in 2 of 5 subjects, in up to 12.5 % of the voxels"
    ]
    assert json.loads(json.dumps(report.to_json()))["subjects"][0]["nan_share"] == 0.125


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_stay_refused(tmp_path: Path, value: float) -> None:
    array = without_first_slices(head(1)[0])
    array[10, 10, 10] = value
    path = write_nifti(tmp_path / "a.nii.gz", array)
    with pytest.raises(VolumeError, match="infinity or values beyond 32 bits in 1 voxel of 13,824"):
        read_image(path, nan_is_zero=True)
    label = write_nifti(tmp_path / "b.nii.gz", np.where(np.isinf(array), array, 0))
    with pytest.raises(VolumeError, match="expected whole numbers as labels"):
        read_label(label, nan_is_zero=True)


def test_image_of_nan_alone_is_constant(folder: Path) -> None:
    write_nifti(folder / "imagesTr" / "case_3.nii.gz", np.full((24, 24, 24), np.nan, np.float32), np.eye(4))
    (error,) = check(folder, options=READ_AS_ZERO).with_severity("error")
    assert "CT with the value 0 in every voxel" in error.message


@pytest.mark.slow
def test_run_records_the_option_and_resumes_with_it(folder: Path, tmp_path: Path) -> None:
    values = {"channels": (4, 8), "sub_volume": (8, 8, 8), "samples_train": 2, "samples_val": 0, "epochs": 1}
    config = resolve_config(tmp_path, tiny(path=str(folder), nan_is_zero=True, **values))
    assert TrainConfig.from_json(config.to_json()).data.nan_is_zero
    run = tmp_path / "run"
    run.mkdir()
    events: list[Event] = []
    train_run(config, run, events.append)
    assert next(e for e in events if isinstance(e, Ready)).facts["NaN"] == "read as 0, in 2 of 5 subjects"
    train_run(config.with_values({"epochs": 2}), run, lambda event: None, resume=True)
    with pytest.raises(VolumeError, match="--nan-is-zero"):
        train_run(config.with_values({"nan_is_zero": False}), tmp_path, lambda event: None)


@pytest.mark.slow
def test_predicted_images_are_read_as_in_training_unless_chosen(
    folder: Path, tmp_path: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from core.checkpointing.checkpoint import Checkpoint, build_network, save
    from core.checkpointing.metadata import CheckpointMetadata
    from core.labels import LabelSpace

    labels = LabelSpace.from_raw({0: "background", 1: "blob"})
    images = [str(folder / "imagesTr" / "case_1.nii.gz"), "--out", str(tmp_path / "out.nii.gz"), "--json"]
    for trained_so in (False, True):
        config = tiny(path="x", sub_volume=(16, 16, 16), channels=(4, 8), nan_is_zero=trained_so)
        described = CheckpointMetadata(config.to_json(), labels.to_json(), ("CT",), None)
        model = tmp_path / f"{trained_so}.safetensors"
        save(model, Checkpoint(described, build_network(described).state_dict()))
        assert main(["predict", str(model), *images]) == (0 if trained_so else 1)
        out, err = capsys.readouterr()
        assert json.loads(out)["nan_voxels"] == 1728 if trained_so else "--nan-is-zero" in err
        chosen = "--nan-is-zero=false" if trained_so else "--nan-is-zero"
        assert main(["predict", chosen, str(model), *images]) == (1 if trained_so else 0)
        capsys.readouterr()
    with pytest.raises(VolumeError, match="NaN"):
        read_images([folder / "imagesTr" / "case_1.nii.gz"], ("CT",))
