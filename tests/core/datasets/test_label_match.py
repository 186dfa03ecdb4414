"""Label maps of other subjects are found by their file names and by the edges of images and labels."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from core.datasets.doctor import check
from core.datasets.doctor_report import DoctorReport
from core.datasets.label_match import coarse_image
from core.types import Size3
from tests.support.heads import head, list_cases, listed_cases, write_heads
from tests.support.volume_files import label_map, make_decathlon, write_nifti

SIZES: tuple[Size3, ...] = ((24, 24, 24), (28, 26, 24), (32, 30, 36))
EDGES, NAMES = "agree clearly better with", "named like"


def messages(report: DoctorReport, part: str) -> list[str]:
    """Warnings with a text."""
    return [f.line for f in report.with_severity("warning") if part in f.message]


def rotate_contents(folder: Path) -> None:
    """Give each label file the voxels of the next case; names stay, as sizes of the grids do."""
    paths = sorted((folder / "labelsTr").iterdir())
    labels = [head(n, SIZES[0])[1] for n in range(1, len(paths) + 1)]
    for path, label in zip(paths, labels[1:] + labels[:1], strict=True):
        write_nifti(path, label, np.eye(4))


@pytest.mark.parametrize("cases", [2, 3, 4, 6])
def test_labels_rotated_by_one_case_are_found_by_their_edges(tmp_path: Path, cases: int) -> None:
    folder = write_heads(tmp_path, cases)
    report = check(folder)
    assert report.ok and not report.findings
    rotate_contents(folder)
    report = check(folder)
    assert report.ok and messages(report, EDGES) and not messages(report, NAMES)
    text = " ".join(messages(report, EDGES))
    assert f"{cases} of {cases} images" in text if cases > 3 else all(f"case_{n}" in text for n in range(1, cases + 1))


def test_labels_rotated_in_the_list_are_found_by_their_names_too(tmp_path: Path) -> None:
    folder = write_heads(tmp_path, 4)
    cases = listed_cases(folder)
    rotated = [
        {"image": case["image"], "label": other["label"]}
        for case, other in zip(cases, cases[1:] + cases[:1], strict=True)
    ]
    report = check(list_cases(folder, rotated))
    assert len(messages(report, NAMES)) == 1 and "4 of 4 label maps" in messages(report, NAMES)[0]
    assert messages(report, EDGES)


def test_cases_of_different_sizes_are_compared(tmp_path: Path) -> None:
    folder = write_heads(tmp_path, 6, SIZES)
    assert not check(folder).findings
    labels = [head(n, SIZES[(n - 1) % 3])[1] for n in range(1, 7)]
    for n, label in enumerate(labels[1:] + labels[:1], start=1):
        padded = np.zeros(SIZES[(n - 1) % 3], np.uint8)
        common = tuple(slice(0, min(a, b)) for a, b in zip(padded.shape, label.shape, strict=True))
        padded[common] = label[common]
        write_nifti(folder / "labelsTr" / f"case_{n}.nii.gz", padded, np.eye(4))
    assert "of 6 images" in messages(check(folder), EDGES)[0]


def test_label_map_of_no_subject_is_found_by_its_agreement(tmp_path: Path) -> None:
    folder = write_heads(tmp_path, 6, SIZES)
    elsewhere = np.roll(head(1, SIZES[0])[1], (5, 4, 3), (0, 1, 2))
    write_nifti(folder / "labelsTr" / "case_1.nii.gz", elsewhere, np.eye(4))
    (found,) = messages(check(folder), "agree no better than")
    assert found.startswith("case_1: ") and "in most other subjects" in found


def test_label_map_with_the_size_of_another_image_is_found(tmp_path: Path) -> None:
    folder = write_heads(tmp_path, 3, SIZES)
    a, b = (folder / "labelsTr" / f"case_{n}.nii.gz" for n in (1, 2))
    for source, target in ((a, tmp_path / "x"), (b, a), (tmp_path / "x", b)):
        shutil.move(source, target)
    report = check(folder)
    assert [e.subject for e in report.with_severity("error")] == ["case_1", "case_2"]
    found = messages(report, "the size and place of the image of")
    assert [line.split(":")[0] for line in found] == ["case_1", "case_2"] and "image of case_2" in found[0]


def test_label_map_without_its_image_is_not_compared(tmp_path: Path) -> None:
    folder = write_heads(tmp_path, 3)
    (folder / "imagesTr" / "case_1.nii.gz").unlink()
    report = check(folder)
    assert [e.subject for e in report.with_severity("error")] == ["case_1"]
    assert messages(report, "the size and place of the image of") == []


def test_two_swapped_label_maps_are_reported_with_their_subjects(tmp_path: Path) -> None:
    folder = write_heads(tmp_path, 6)
    a, b = (folder / "labelsTr" / f"case_{n}.nii.gz" for n in (2, 5))
    for source, target in ((a, tmp_path / "x"), (b, a), (tmp_path / "x", b)):
        shutil.move(source, target)
    found = messages(check(folder), EDGES)
    assert [line.split(":")[0] for line in found] == ["case_2", "case_5"]
    assert "with the label map of case_5 than with its own" in found[0] and "labelsTr/case_2.nii.gz" in found[0]


def test_labels_without_relation_to_the_image_raise_no_alarm(tmp_path: Path) -> None:
    make_decathlon(tmp_path, 6)
    assert not messages(check(tmp_path), EDGES) and not messages(check(tmp_path), NAMES)
    for n in range(1, 4):
        write_nifti(tmp_path / "labelsTr" / f"case_00{n}.nii.gz", label_map((0, 1), seed=7))
    assert not messages(check(tmp_path), EDGES)


def test_single_two_swapped_names_are_reported(tmp_path: Path) -> None:
    folder = write_heads(tmp_path, 5)
    cases = listed_cases(folder)
    cases[1]["label"], cases[3]["label"] = cases[3]["label"], cases[1]["label"]
    found = messages(check(list_cases(folder, cases)), NAMES)
    assert [line.split(":")[0] for line in found] == ["case_2", "case_4"] and "image of case_4" in found[0]


@pytest.mark.parametrize("pattern", ["{n}_seg", "s{n:03d}-label", "annotation_of_case_{n}", "x{n}y"])
def test_other_names_of_label_maps_raise_no_alarm(tmp_path: Path, pattern: str) -> None:
    folder = write_heads(tmp_path, 3)
    cases = listed_cases(folder)
    for n, case in enumerate(cases, start=1):
        name = f"labelsTr/{pattern.format(n=n)}.nii.gz"
        shutil.move(folder / case["label"], folder / name)
        case["label"] = name
    assert not messages(check(list_cases(folder, cases)), NAMES)


def test_data_of_one_voxel_is_no_number_without_meaning(tmp_path: Path) -> None:
    folder = make_decathlon(tmp_path)
    for name in ("imagesTr", "labelsTr"):
        write_nifti(folder / name / "case_001.nii.gz", np.ones((1, 1, 1), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check(folder)
    assert not report.ok and "in every voxel" in report.with_severity("error")[0].message


def test_coarse_images_keep_the_mean() -> None:
    image = np.random.default_rng(0).normal(5, 1, (130, 40, 70)).astype(np.float32)
    coarse = coarse_image(image)
    assert coarse.shape == (43, 40, 35) and coarse.dtype == np.float32
    assert coarse.mean() == pytest.approx(image.mean(), abs=0.01) and coarse.std() < image.std() / 3


@pytest.mark.data
@pytest.mark.slow
def test_labels_of_real_hippocampi_rotated_by_one_case_are_found(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "Task04_Hippocampus"
    cases = listed_cases(source)[:12]
    import nibabel as nib

    names = [Path(case["label"]).name for case in cases]
    for n, case in enumerate(cases):
        image = nib.load(source / case["image"])
        (tmp_path / "imagesTr").mkdir(exist_ok=True)
        shutil.copy(source / case["image"], tmp_path / "imagesTr" / names[n])
        other = np.asarray(nib.load(source / cases[(n + 1) % len(cases)]["label"]).dataobj).astype(np.uint8)
        padded = np.zeros(image.shape, np.uint8)
        common = tuple(slice(0, min(a, b)) for a, b in zip(image.shape, other.shape, strict=True))
        padded[common] = other[common]
        write_nifti(tmp_path / "labelsTr" / names[n], padded, image.affine)
    shutil.copy(source / "dataset.json", tmp_path)
    training = [{"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names]
    report = check(list_cases(tmp_path, training, numTraining=12))
    assert "of 12 images" in messages(report, EDGES)[0]
