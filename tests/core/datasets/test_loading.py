"""Subjects as they are read: units of length, sform and qform, one-hot label maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.datasets import DataOptions, fingerprint, fitness, load_subject, open_dataset
from core.datasets.doctor import check
from core.datasets.fitness import SubjectCounts
from core.errors import DatasetError, VolumeError
from core.imaging.volume import read_label, write_label
from tests.support.known_folders import EXAMPLES, RESAMPLED
from tests.support.volume_files import AFFINE, SHAPE, label_map, load, make_decathlon, make_iseg, voxels, write_nifti

CLASSES = 3  # of the data set, background included


def files(folder: Path, case: int = 1) -> tuple[Path, Path]:
    return folder / "imagesTr" / f"case_{case:03d}.nii.gz", folder / "labelsTr" / f"case_{case:03d}.nii.gz"


def save(path: Path, array: np.ndarray, affine: np.ndarray, unit: str) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)


def test_unit_of_the_label_map_serves_an_image_without_one_everywhere(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path))
    affine = np.diag([10.0, 10.0, 20.0, 1.0])
    image, label = files(tmp_path)
    save(image, voxels(), affine, "unknown")
    save(label, label_map((0, 1, 2)), affine, "micron")
    loaded = load_subject(dataset, "case_001")
    assert loaded.geometry.spacing_mm == pytest.approx((0.01, 0.01, 0.02))
    assert fingerprint(dataset).spacings_mm["case_001"] == loaded.geometry.spacing_mm
    write_label(tmp_path / "out.nii.gz", voxels() > 500, loaded.stored, loaded.first_image)
    assert load(tmp_path / "out.nii.gz").header.get_xyzt_units()[0] == "micron"
    np.testing.assert_array_equal(load(tmp_path / "out.nii.gz").affine, affine)
    assert read_label(tmp_path / "out.nii.gz").stored == loaded.stored


def test_notes_and_warnings_stay_with_the_subject(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path))
    image, label = files(tmp_path)
    moved = AFFINE.copy()
    moved[0, 3] += 66
    for path, array in ((image, voxels()), (label, label_map((0, 1, 2)))):
        nifti = nib.Nifti1Image(array, AFFINE)
        nifti.set_sform(AFFINE, 1)
        nifti.set_qform(moved, 1)
        nib.save(nifti, path)
    remarks = load_subject(dataset, "case_001").remarks
    assert {path for path, _ in remarks} == {image, label}
    assert sum("66 mm apart" in text for _, text in remarks) == 2
    assert sum("no unit of length" in text for _, text in remarks) == 2
    report = check(dataset)
    warnings = report.with_severity("warning")
    assert report.ok and [w.file for w in warnings] == [str(image), str(label)]
    assert all("66 mm apart" in w.message and w.fix for w in warnings)
    (note,) = report.with_severity("note")
    assert "no unit of length" in note.message and "(2 files, such as case_001.nii.gz)" in note.message


def one_hot(label: np.ndarray, first: int = 0) -> np.ndarray:
    return np.stack([label == value for value in range(first, CLASSES)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("vector", [False, True])
def test_one_hot_label_map_is_read_with_a_warning(tmp_path: Path, first: int, vector: bool) -> None:
    dataset = open_dataset(make_decathlon(tmp_path))
    label = np.zeros(SHAPE, np.uint8)
    label[:3, :2] = label_map((0, 1, 2))[:3, :2]
    channels = one_hot(label, first)
    write_nifti(files(tmp_path)[1], channels[:, :, :, None] if vector else channels.astype(np.float32))
    loaded = load_subject(dataset, "case_001")
    assert loaded.label is not None and np.array_equal(loaded.label, label)
    names = "background, front, back" if first == 0 else "front, back"
    expected = f"{CLASSES - first} channels hold 0 and 1 (one-hot): read as the classes {names}"
    assert expected in loaded.remarks[-1][1]
    report = check(dataset)
    (warning,) = report.with_severity("warning")
    assert report.ok and expected in warning.message and report.subjects[0].label_shares["back"] > 0


def test_channels_that_are_not_one_hot_are_refused(tmp_path: Path) -> None:
    dataset = open_dataset(make_decathlon(tmp_path))
    path = files(tmp_path)[1]
    label = np.zeros(SHAPE, np.uint8)
    label[:2], label[2] = 1, 2
    channels = one_hot(label)

    def refused(array: np.ndarray, match: str) -> None:
        write_nifti(path, array)
        with pytest.raises((VolumeError, DatasetError), match=match):
            load_subject(dataset, "case_001")
        assert not check(dataset).ok

    refused(voxels((*SHAPE, 3)), "got 3 channels with other values")
    refused(channels * 0.6, "got 3 channels with other values")
    overlapping = channels.copy()
    overlapping[0, 0, 0] = 1
    refused(overlapping, "overlap in 1 voxel;")
    empty = channels.copy()
    empty[0, 0, :2] = 0
    refused(empty, "none is 1 in 2 voxels")
    refused(channels[..., ::-1], "expected the background in the first of 3 one-hot channels")
    refused(np.concatenate([channels, channels], axis=-1), "expected 1 channel .*got 6; .*one for each class")


def make_incomplete(folder: Path) -> Path:
    """Four subjects, the second without T2."""
    make_iseg(folder, 4)
    (folder / "subject-2-T2.nii.gz").unlink()
    return folder


def test_a_case_without_a_modality_is_refused_left_out_or_read_as_zero_as_chosen(tmp_path: Path) -> None:
    folder = make_incomplete(tmp_path)
    with pytest.raises(DatasetError, match=r"an image of T2 for subject-2.*--missing-modalities leave_out\|zero"):
        load_subject(open_dataset(folder), "subject-2")
    assert not check(folder).ok
    left_out = open_dataset(folder, options=DataOptions(missing_modalities="leave_out"))
    assert left_out.labelled_ids == ("subject-1", "subject-3", "subject-4") and check(left_out).ok
    only_t1 = open_dataset(folder, options=DataOptions(missing_modalities="leave_out", needed=("T1",)))
    assert len(only_t1.labelled_ids) == 4, "T2 is not needed"
    zero = open_dataset(folder, options=DataOptions(missing_modalities="zero"))
    loaded, whole = load_subject(zero, "subject-2"), load_subject(zero, "subject-1")
    assert loaded.absent == ("T2",) and loaded.image.shape == whole.image.shape and whole.absent == ()
    assert not loaded.image[1].any() and loaded.image[0].any()
    assert load_subject(zero, "subject-2", ("T2", "T1")).image[1].any()
    report = check(zero)
    assert report.ok and any("no image of T2: it is read as 0 in every voxel" in f.message for f in report.findings)
    assert not SubjectCounts.of(loaded, zero.modalities, zero.labels).constant
    assert not fitness.judge_files(zero) and fitness.judge_files(open_dataset(folder))
    with pytest.raises(DatasetError, match="an image of T2 for subject-2"):
        load_subject(zero, "subject-2", ("T2",))


def test_masks_are_one_label_map_and_must_not_overlap(tmp_path: Path) -> None:
    folder = EXAMPLES["totalsegmentator-ct"](tmp_path / "data")
    dataset = open_dataset(folder)
    label = load_subject(dataset, "s0000").label
    assert label is not None and set(np.unique(label)) == {0, 1, 2, 3}
    first, second = (folder / "s0000" / "segmentations" / f"{n}.nii.gz" for n in ("kidney_left", "spleen"))
    write_nifti(second, np.ones((6, 7, 5), np.uint8), RESAMPLED)
    with pytest.raises(VolumeError, match=r"expected masks that do not overlap, got \d+ voxels of kidney_left too"):
        load_subject(dataset, "s0000")
    label = load_subject(replace(dataset, later_mask_wins=True), "s0000").label
    assert label is not None and (label == 3).all(), "spleen is listed last"
    write_nifti(first, np.arange(210, dtype=np.uint8).reshape(6, 7, 5), RESAMPLED)
    with pytest.raises(VolumeError, match="expected a mask, 0 and one other value"):
        load_subject(dataset, "s0000")
    write_nifti(first, np.zeros((6, 7, 4), np.uint8), RESAMPLED)
    with pytest.raises(DatasetError, match="does not fit the first image"):
        load_subject(dataset, "s0000")
