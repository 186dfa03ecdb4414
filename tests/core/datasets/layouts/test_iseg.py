"""Layout of iSEG-2017, as Analyze pairs and as NIfTI files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.errors import DatasetError, VolumeError
from tests.support.volume_files import AFFINE, label_map, make_iseg, voxels, write_analyze, write_nifti


@pytest.mark.parametrize("suffix", [".hdr", ".nii", ".nii.gz"])
def test_subjects_modalities_and_classes_are_read(tmp_path: Path, suffix: str) -> None:
    dataset = open_dataset(make_iseg(tmp_path, 11, suffix))
    assert dataset.ids == tuple(f"subject-{n}" for n in range(1, 12)) == dataset.labelled_ids
    assert dataset.modalities == ("T1", "T2")
    assert dataset.labels.names == ("background", "CSF", "GM", "WM")
    assert dataset.labels.raw_values == (0, 10, 150, 250)
    assert not dataset.synthetic
    loaded = load_subject(dataset, "subject-2")
    assert loaded.image.shape == (2, 6, 7, 5) and loaded.image.dtype == np.float32
    assert np.array_equal(loaded.image[1], voxels(seed=21))
    assert loaded.label is not None and loaded.label.dtype == np.uint8
    assert np.array_equal(dataset.labels.to_raw(loaded.label), label_map((0, 10, 150, 250), seed=2))
    assert loaded.geometry.oriented == (suffix != ".hdr")


def test_names_are_matched_in_any_case_and_other_files_ignored(tmp_path: Path) -> None:
    make_iseg(tmp_path, 2)
    (tmp_path / "subject-1-T1.nii.gz").rename(tmp_path / "SUBJECT-1-t1.NII.GZ")
    for name in ("._subject-3-T1.nii.gz", "notes.txt", "subject-x-T1.nii", "subject-1-T1.nii.gz.bak"):
        (tmp_path / name).write_text("")
    dataset = open_dataset(tmp_path)
    assert dataset.ids == ("subject-1", "subject-2")
    assert load_subject(dataset, "subject-1").image.shape[0] == 2


def test_missing_modality_or_label_affects_only_its_subject(tmp_path: Path) -> None:
    make_iseg(tmp_path, 3)
    (tmp_path / "subject-2-T2.nii.gz").unlink()
    (tmp_path / "subject-3-label.nii.gz").unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.labelled_ids == ("subject-1", "subject-2")
    with pytest.raises(DatasetError, match="expected an image of T2 for subject-2, found none"):
        load_subject(dataset, "subject-2")
    assert load_subject(dataset, "subject-2", modalities=("T1",)).image.shape[0] == 1
    assert load_subject(dataset, "subject-3").label is None


def test_two_files_for_one_image_are_refused(tmp_path: Path) -> None:
    make_iseg(tmp_path, 2)
    write_analyze(tmp_path / "subject-1-T1", voxels())
    with pytest.raises(DatasetError, match=r"one file .or pair. for each image, got .* and .*; remove all but one"):
        open_dataset(tmp_path)


def test_two_spellings_of_one_id_are_refused(tmp_path: Path) -> None:
    make_iseg(tmp_path, 1)
    shutil.copy(tmp_path / "subject-1-T1.nii.gz", tmp_path / "subject-01-T1.nii.gz")
    with pytest.raises(DatasetError, match="subject-01-T1"):
        open_dataset(tmp_path)


def test_labels_without_images_are_refused(tmp_path: Path) -> None:
    write_nifti(tmp_path / "subject-1-label.nii", label_map((0, 10)))
    with pytest.raises(DatasetError, match="expected T1 or T2 images, found only labels"):
        open_dataset(tmp_path)


def test_incomplete_analyze_pair_is_refused(tmp_path: Path) -> None:
    make_iseg(tmp_path, 1, ".hdr")
    (tmp_path / "subject-1-T2.hdr").unlink()
    with pytest.raises(VolumeError, match="other half"):
        load_subject(open_dataset(tmp_path), "subject-1")


def test_label_of_another_orientation_is_aligned_as_stored(tmp_path: Path) -> None:
    make_iseg(tmp_path, 1)
    labels = label_map((0, 10, 150, 250))
    write_nifti(tmp_path / "subject-1-label.nii.gz", labels, AFFINE @ np.diag([-1, -1, 1, 1]))
    dataset = open_dataset(tmp_path)
    loaded = load_subject(dataset, "subject-1")
    assert loaded.label is not None
    assert np.array_equal(dataset.labels.to_raw(loaded.label), labels)


def test_label_without_orientation_is_aligned_as_stored(tmp_path: Path) -> None:
    make_iseg(tmp_path, 1)
    labels = label_map((0, 10, 150, 250))
    las = AFFINE @ np.diag([-1, 1, 1, 1])
    for kind, seed in (("T1", 1), ("T2", 2)):
        write_nifti(tmp_path / f"subject-1-{kind}.nii.gz", voxels(seed=seed), las)
    write_nifti(tmp_path / "subject-1-label.nii.gz", labels, None)
    dataset = open_dataset(tmp_path)
    loaded = load_subject(dataset, "subject-1")
    assert loaded.label is not None and np.array_equal(loaded.image[0], voxels(seed=1)[::-1])
    assert np.array_equal(dataset.labels.to_raw(loaded.label), labels[::-1])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dict(shape=(6, 7, 6)), "expected shape 6x7x5, got 6x7x6"),
        (dict(shift=(5, 0, 0)), "origin"),
        (dict(scale=2), "expected voxels of"),
    ],
)
def test_label_of_another_geometry_is_refused(tmp_path: Path, change: dict, match: str) -> None:
    make_iseg(tmp_path, 1)
    affine = AFFINE.copy()
    affine[:3, :3] *= change.get("scale", 1)
    affine[:3, 3] += change.get("shift", 0)
    write_nifti(tmp_path / "subject-1-label.nii.gz", label_map((0, 10), change.get("shape", (6, 7, 5))), affine)
    with pytest.raises(
        DatasetError, match=f"label.nii.gz: the label does not fit the first image of subject-1: .*{match}"
    ):
        load_subject(open_dataset(tmp_path), "subject-1")


def test_demo_marker_marks_data_as_synthetic(tmp_path: Path) -> None:
    make_iseg(tmp_path, 1)
    (tmp_path / "segmentarium-demo.json").write_text('{"licence": "MNI"}')
    assert open_dataset(tmp_path).synthetic and open_dataset(tmp_path).licence == "MNI"
    (tmp_path / "segmentarium-demo.json").write_text("damaged")
    assert open_dataset(tmp_path).synthetic and open_dataset(tmp_path).notes == ()
    (tmp_path / "segmentarium-demo.json").rename(tmp_path / "segmentarium-demo.unfinished.json")
    assert open_dataset(tmp_path).synthetic and "unfinished" in open_dataset(tmp_path).notes[0]
