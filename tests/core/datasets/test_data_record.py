"""The record of a run's data: what counts as the same data, and how a change is named."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.datasets.data_record import DataRecord
from core.errors import DatasetError
from tests.support.balls import write_balls
from tests.support.volume_files import load


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "data", 3, channels=2)


def record(folder: Path) -> DataRecord:
    """The record of all subjects, with voxels."""
    dataset = open_dataset(folder)
    found = DataRecord.read_headers(dataset, dataset.ids, dataset.modalities, dataset.labels)
    for id in dataset.ids:
        loaded = load_subject(dataset, id)
        found.subjects[id] = found.subjects[id].with_voxels(loaded, dataset.modalities, dataset.labels)
    return found


def rewrite(path: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    """Write a file again with changed voxels and affine."""
    image = load(path)
    voxels, affine = change(np.asarray(image.dataobj), image.affine.copy())
    nib.save(nib.Nifti1Image(voxels, affine), path)


def scaled(factor: float) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    return lambda voxels, affine: (voxels, affine * np.array([factor, factor, factor, 1])[:, None])


def test_record_survives_the_round_trip_through_the_run_folder(data: Path, tmp_path: Path) -> None:
    before = record(data)
    before.save(tmp_path)
    after = DataRecord.load(tmp_path)
    assert after == before and after is not None and after.changes(before) == []
    assert DataRecord.load(data) is None


def test_moved_folder_and_files_stored_otherwise_are_the_same_data(data: Path, tmp_path: Path) -> None:
    before = record(data)
    moved = Path(shutil.move(data, tmp_path / "elsewhere"))
    label = moved / "labelsTr" / "ball_1.nii.gz"
    label.write_bytes(gzip.compress(gzip.decompress(label.read_bytes()), 1))
    flipped = moved / "imagesTr" / "ball_0.nii.gz"  # the same voxels in the same places, stored from left to right
    stored = load(flipped)
    nib.save(stored.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]])), flipped)
    assert load(flipped).affine[0, 0] < 0 < stored.affine[0, 0]
    assert before.changes(record(moved)) == []


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("imagesTr", scaled(2), "ball_0.nii.gz: voxel size 1 x 1 x 1.5 mm to 2 x 2 x 3 mm"),
        ("labelsTr", lambda v, a: (v, a + 5 * np.eye(4, k=3)), "ball_0.nii.gz: affine [1 0 0 -10; 0 1 0 -12; 0 0 1.5"),
        ("imagesTr", lambda v, a: (v, np.diag([-1, 1, 1, 1]) @ a), "ball_0.nii.gz: orientation RAS to LAS"),
        ("imagesTr", lambda v, a: (v[:-1], a), "ball_0.nii.gz: shape 20x24x18 to 19x24x18"),
        ("imagesTr", lambda v, a: (v + (v == v.max()), a), "ball_0.nii.gz: content (other voxel values)"),
        ("imagesTr", lambda v, a: (v[..., ::-1], a), "ball_0.nii.gz: content (other voxel values)"),
        ("labelsTr", lambda v, a: (v * (v != 2), a), "ball_0.nii.gz: label values 0, 1, 2 to 0, 1"),
        ("labelsTr", lambda v, a: (v[::-1], a), "ball_0.nii.gz: content (other voxel values)"),
    ],
)
def test_change_of_a_file_is_named(
    data: Path, file: str, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], named: str
) -> None:
    before = record(data)
    rewrite(data / file / "ball_0.nii.gz", change)
    dataset = open_dataset(data)
    now = DataRecord.read_headers(dataset, dataset.ids, dataset.modalities, dataset.labels)
    if "content" in named or "label values" in named:
        assert before.changes(now) == [], "headers alone do not show it"
        now = record(data)
    (found,) = before.changes(now)
    assert f"{file}/{named}" in found


def test_header_that_mirrors_the_voxels_in_place_is_named(data: Path) -> None:
    before, file = record(data), data / "imagesTr" / "ball_0.nii.gz"
    from_the_right = np.array([[-1, 0, 0, load(file).shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    rewrite(file, lambda v, a: (v, a @ from_the_right))
    assert before.changes(record(data)) == [
        "imagesTr/ball_0.nii.gz: orientation RAS to LAS",
        "imagesTr/ball_0.nii.gz: content (other voxel values)",
    ]


def test_number_of_changed_label_voxels_is_named(data: Path) -> None:
    before = record(data)
    voxels = before.subjects["ball_0"].files["label map"].label_voxels["1"]

    def with_one_more(label: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        label[0, 0, 0] = 1
        return label, affine

    rewrite(data / "labelsTr" / "ball_0.nii.gz", with_one_more)
    (found,) = before.changes(record(data))
    assert f"label 1 in {voxels:,} to {voxels + 1:,} voxels" in found


def test_changes_of_the_description_are_named(data: Path) -> None:
    before = record(data)
    content = json.loads((data / "dataset.json").read_text())

    def changed(**values: object) -> list[str]:
        (data / "dataset.json").write_text(json.dumps({**content, **values}))
        return before.changes(record(data))

    (order,) = changed(modality={"0": "M1", "1": "M0"})[:1]
    assert order == "modalities M0, M1 to M1, M0"
    others = content["training"][1:] + [{**content["training"][1], "image": "./imagesTr/ball_0.nii.gz"}]
    (data / "dataset.json").write_text(json.dumps({**content, "training": others[:2]}))
    assert before.changes(record(data)) == ["ball_0: subject missing"]
    (data / "dataset.json").write_text(json.dumps(content))
    (data / "imagesTr" / "ball_2.nii.gz").rename(data / "aside.nii.gz")
    dataset = open_dataset(data)
    now = DataRecord.read_headers(dataset, dataset.ids, dataset.modalities, dataset.labels)
    assert before.changes(now) == [
        "imagesTr/ball_2.nii.gz: M0 missing",
        "imagesTr/ball_2.nii.gz: M1 missing",
    ]


def test_swapped_label_values_are_named(data: Path) -> None:
    before = record(data)
    content = json.loads((data / "dataset.json").read_text())
    labels = {"0": "background", "1": "dark", "2": "bright"}
    (data / "dataset.json").write_text(json.dumps({**content, "labels": labels}))
    assert before.changes(record(data))[0] == "classes 0 background, 1 bright, 2 dark to 0 background, 1 dark, 2 bright"


def test_files_with_the_same_change_are_named_together(data: Path) -> None:
    before = record(data)
    for part in ("imagesTr", "labelsTr"):
        for path in (data / part).iterdir():
            rewrite(path, scaled(2))
    (found,) = before.changes(record(data))
    assert found.endswith(": voxel size 1 x 1 x 1.5 mm to 2 x 2 x 3 mm")
    assert found.count(".nii.gz") == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"version": 2}', "expected version 1 or older, got 2"),
        ('{"version": 1, "modalities": [], "labels": [], "accepted": [], "subjects": {"a": {"M0": {}}}}', "damaged"),
    ],
)
def test_damaged_or_newer_record_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        DataRecord.load(tmp_path)
    assert DataRecord.load_or_none(tmp_path) is None
