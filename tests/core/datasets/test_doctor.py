"""The data doctor: valid folders pass; every fault is reported with its subject and file."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from core.datasets import DataOptions, open_dataset
from core.datasets.doctor import check
from core.datasets.findings import Finding
from core.strict_json import dumps
from tests.support.fetal_folder import CLASSES, make_fetal_folder
from tests.support.ignored import SLAB, write_ignored_balls
from tests.support.volume_files import (
    AFFINE,
    SHAPE,
    label_map,
    load,
    make_decathlon,
    make_iseg,
    patch,
    voxels,
    write_nifti,
)


def test_valid_folder_has_no_findings(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = check(make_iseg(tmp_path / "data"), progress=lambda *step: steps.append(step), thumbnails=tmp_path / "t")
    assert report.ok and report.findings == ()
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    facts = report.subjects[0]
    assert (facts.id, facts.shape, facts.orientation, facts.modalities) == ("subject-1", SHAPE, "RAS", ("T1", "T2"))
    assert facts.spacing_mm == (1, 1.5, 2) and facts.labelled and facts.ok
    labels = label_map((0, 10, 150, 250), seed=1)
    assert facts.label_shares["WM"] == pytest.approx((labels == 250).mean())
    assert sum(facts.label_shares.values()) == pytest.approx(1)
    image = voxels(seed=10)
    assert facts.intensities["T1"] == pytest.approx({"min": image.min(), "max": image.max(), "mean": image.mean()})
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == [f"subject-{n}.png" for n in (1, 2, 3)]


def test_report_as_json_names_errors_and_subjects(tmp_path: Path) -> None:
    make_iseg(tmp_path)
    (tmp_path / "subject-3-T2.nii.gz").write_bytes(b"")
    report = json.loads(dumps(check(tmp_path).to_json()))
    assert report["ok"] is False and report["layout"] == "iseg" and report["counts"]["errors"] == 1
    assert report["findings"][0]["subject"] == "subject-3" and report["findings"][0]["severity"] == "error"
    assert report["subjects"][2]["ok"] is False and report["subjects"][0]["shape"] == list(SHAPE)
    assert [c["name"] for c in report["labels"]] == ["background", "CSF", "GM", "WM"]


def test_folder_that_cannot_be_opened_gives_a_report(tmp_path: Path) -> None:
    report = check(tmp_path)
    assert not report.ok and report.dataset is None and "dataset.json" in report.findings[0].message
    assert json.loads(dumps(report.to_json()))["ok"] is False
    assert not check(tmp_path / "none").ok
    assert not check("").ok


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def spoil_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(bytes(content))


def with_nan(path: Path) -> None:
    array = voxels().astype(np.float32)
    array[0, 0, 0] = np.nan
    write_nifti(path, array)


def patched(offset: int, format: str, *values: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        plain = write_nifti(path.with_name("plain.nii"), voxels())
        path.write_bytes(gzip.compress(patch(plain, offset, format, *values).read_bytes()))
        plain.unlink()

    return change


IMAGE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "cut off"),
    "checksum": (spoil_checksum, "checksum"),
    "missing": (Path.unlink, "nothing there"),
    "nan": (with_nan, r"NaN in 1 voxel of 210; .*\(--nan-is-zero\)"),
    "infinite slope": (patched(112, "f", np.inf), "scl_slope inf"),
    "zero dimension": (patched(40, "4h", 3, 0, 7, 5), "at least 1"),
    "singular": (patched(280, "4f", 0, 0, 0, 0), "invertible"),
    "shape": (lambda path: write_nifti(path, voxels((6, 7, 6))), "does not fit"),
    "elsewhere": (
        lambda path: write_nifti(path, voxels(), AFFINE + np.eye(4)[:, [3, 3, 3, 0]] * 9),
        "does not fit|affine",
    ),
    "channels": (lambda path: write_nifti(path, voxels((*SHAPE, 2))), "expected 1 channel"),
    "constant": (lambda path: write_nifti(path, np.full(SHAPE, 7, np.int16)), "value 7 in every voxel"),
    "no image": (lambda path: path.write_text("hello world"), "a text file"),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_faulty_image_gives_one_error(tmp_path: Path, fault: str) -> None:
    make_decathlon(tmp_path)
    change, match = IMAGE_FAULTS[fault]
    change(tmp_path / "imagesTr" / "case_002.nii.gz")
    assert_single_error(tmp_path, "case_002", match)


LABEL_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "cut off"),
    "missing": (Path.unlink, "nothing there"),
    "fraction": (lambda path: write_nifti(path, label_map((0, 1, 2)) * 0.5), "whole numbers"),
    "unknown value": (lambda path: write_nifti(path, label_map((0, 1, 2, 9))), "found also 9"),
    "shape": (lambda path: write_nifti(path, label_map((0, 1), (6, 7, 6))), "expected shape 6x7x5, got 6x7x6"),
    "channels": (lambda path: write_nifti(path, voxels((*SHAPE, 2))), "expected 1 channel"),
    "elsewhere": (lambda path: write_nifti(path, label_map((0, 1)), np.diag([1, 1.5, 2, 1])), "origin"),
}


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_faulty_label_gives_one_error(tmp_path: Path, fault: str) -> None:
    make_decathlon(tmp_path)
    change, match = LABEL_FAULTS[fault]
    change(tmp_path / "labelsTr" / "case_002.nii.gz")
    assert_single_error(tmp_path, "case_002", match)


def assert_single_error(folder: Path, subject: str, match: str) -> None:
    """The report has one error, for this subject and one of its files, with a remedy."""
    report = check(folder)
    errors = report.with_severity("error")
    assert len(errors) == 1 and errors[0].subject == subject
    assert re.search(match, errors[0].line) and errors[0].fix and "\n" not in errors[0].line
    assert Path(errors[0].file).name == f"{subject}.nii.gz" and errors[0].file not in errors[0].message
    assert [s.ok for s in report.subjects] == [s.id != subject for s in report.subjects]


def test_missing_modality_and_missing_label_are_errors(tmp_path: Path) -> None:
    make_iseg(tmp_path)
    (tmp_path / "subject-1-T2.nii.gz").unlink()
    (tmp_path / "subject-2-label.nii.gz").unlink()
    errors = check(tmp_path).with_severity("error")
    assert [(e.subject, "image of T2" in e.message, "label map" in e.message) for e in errors] == [
        ("subject-1", True, False),
        ("subject-2", False, True),
    ]


def test_all_faults_are_reported(tmp_path: Path) -> None:
    make_decathlon(tmp_path, 4)
    with_nan(tmp_path / "imagesTr" / "case_001.nii.gz")
    write_nifti(tmp_path / "labelsTr" / "case_001.nii.gz", label_map((0, 9)))
    truncate(tmp_path / "imagesTr" / "case_003.nii.gz")
    assert [e.subject for e in check(tmp_path).with_severity("error")] == ["case_001", "case_001", "case_003"]


def test_single_subject_is_an_error(tmp_path: Path) -> None:
    assert "at least 2 subjects" in check(make_iseg(tmp_path, 1)).with_severity("error")[0].message


def test_empty_label_maps_are_reported(tmp_path: Path) -> None:
    make_decathlon(tmp_path)
    empty = np.zeros(SHAPE, np.uint8)
    write_nifti(tmp_path / "labelsTr" / "case_001.nii.gz", empty)
    report = check(tmp_path)
    assert report.ok and "background in every voxel" in report.with_severity("warning")[0].message
    assert [n.message for n in report.with_severity("note")] == [
        f"{name} is absent in 1 of 3 label maps: case_001" for name in ("front", "back")
    ]
    for n in (2, 3):
        write_nifti(tmp_path / "labelsTr" / f"case_00{n}.nii.gz", empty)
    assert "only background in every label map" in check(tmp_path).with_severity("error")[0].message


def test_absent_class_is_a_warning(tmp_path: Path) -> None:
    make_decathlon(tmp_path, labels={"0": "background", "1": "front", "2": "back", "3": "ghost"})
    report = check(tmp_path)
    assert report.ok and "holds the class ghost" in report.with_severity("warning")[0].message


def test_duplicate_image_is_a_warning(tmp_path: Path) -> None:
    make_decathlon(tmp_path)
    shutil.copy(tmp_path / "imagesTr" / "case_001.nii.gz", tmp_path / "imagesTr" / "case_003.nii.gz")
    (warning,) = check(tmp_path).findings
    assert warning.severity == "warning" and warning.subject == "case_003" and "case_001" in warning.message


def test_unusual_and_differing_voxel_sizes_are_warnings(tmp_path: Path) -> None:
    make_decathlon(tmp_path)
    labels = label_map((0, 1, 2))
    for part, first, second in (("imagesTr", voxels(), voxels(seed=5)), ("labelsTr", labels, labels)):
        write_nifti(tmp_path / part / "case_001.nii.gz", first, np.diag([3, 3, 3, 1]))
        write_nifti(tmp_path / part / "case_002.nii.gz", second, np.diag([0.001, 0.001, 0.001, 1]))
    odd, spread = check(tmp_path).with_severity("warning")
    assert odd.subject == "case_002" and "0.001 x 0.001 x 0.001 mm" in odd.message
    assert "differ between subjects" in spread.message and "--resample median" in spread.fix


def test_missing_and_contradicting_orientations_are_reported(tmp_path: Path) -> None:
    report = check(make_iseg(tmp_path / "analyze", suffix=".hdr"))
    assert report.ok and {s.orientation for s in report.subjects} == {"???"}
    assert [f.severity for f in report.findings] == ["note"]
    assert "3 of 3 subjects state no orientation" in report.findings[0].message
    assert "unknown" in report.thumbnail_orientation and "radiological" not in report.thumbnail_orientation
    make_iseg(tmp_path / "flipped")
    write_nifti(
        tmp_path / "flipped" / "subject-1-label.nii.gz", label_map((0, 10, 150, 250)), AFFINE @ np.diag([-1, 1, 1, 1])
    )
    report = check(tmp_path / "flipped")
    assert report.thumbnail_orientation.endswith("the patient's left is on the right")
    assert report.ok and "LAS" in report.findings[0].message and report.findings[0].severity == "warning"


def test_notes_of_the_layout_are_reported(tmp_path: Path) -> None:
    report = check(make_decathlon(tmp_path, numTraining=7))
    assert report.ok and "states 7 training cases" in report.findings[0].message


def test_opened_data_set_is_accepted(tmp_path: Path) -> None:
    assert check(open_dataset(make_iseg(tmp_path))).ok


def test_finding_is_one_line() -> None:
    finding = Finding("error", "expected a, got b", "s", "/f", "do c")
    assert finding.line == "s: /f: expected a, got b; do c"
    assert Finding("note", "hello").line == "hello"


@pytest.mark.parametrize(("unit", "factor", "warned"), [("micron", 10, False), ("mm", 0.01, True), ("mm", 30, True)])
def test_voxel_sizes_are_judged_with_the_unit_that_is_stated(
    tmp_path: Path, unit: str, factor: float, warned: bool
) -> None:
    make_decathlon(tmp_path)
    for part in ("imagesTr", "labelsTr"):
        for path in sorted((tmp_path / part).iterdir()):
            image = load(path)
            scaled = nib.Nifti1Image(np.asarray(image.dataobj), np.diag([factor, factor, factor, 1]))
            scaled.header.set_xyzt_units(unit)
            nib.save(scaled, path)
    report = check(tmp_path)
    assert report.ok and len(report.with_severity("warning")) == 3 * warned
    if warned:
        assert f"got {factor:g} x {factor:g} x {factor:g} mm" in report.findings[0].message
        assert report.findings[0].fix == "check the unit in its header, which is mm"
    else:
        assert report.subjects[0].spacing_mm == pytest.approx((0.01, 0.01, 0.01))
        assert "lengths are stated in micron: voxels of 0.01 x 0.01 x 0.01 mm (6 files" in report.findings[0].message


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.data
def test_hippocampus_data_set_is_valid(test_data: Path) -> None:
    report = check(test_data / "Task04_Hippocampus")
    assert report.ok and len(report.subjects) == 80 and not report.with_severity("warning")
    shares = np.array([[s.label_shares[c] for c in ("Anterior", "Posterior")] for s in report.subjects])
    assert 0.01 < shares.mean() < 0.1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.data
def test_fetal_atlas_is_valid(test_data: Path, tmp_path: Path) -> None:
    folder = make_fetal_folder(test_data / "fetal_atlas", tmp_path / "fetal")
    report = check(folder, thumbnails=tmp_path / "pictures")
    assert report.ok and len(report.subjects) == 15 and len(CLASSES) == 9
    assert all(min(s.label_shares.values()) > 0 for s in report.subjects)
    assert {s.shape for s in report.subjects} == {(135, 189, 155)}
    with Image.open(tmp_path / "pictures" / "GA30_operated.png") as picture:
        assert picture.height == 192


def test_outliers_are_noted_with_value_and_place(tmp_path: Path) -> None:
    make_decathlon(tmp_path)
    image = np.random.default_rng(0).normal(100, 10, (20, 20, 20)).astype(np.float32)
    for part, array in (("imagesTr", image), ("labelsTr", (image > 110).astype(np.uint8))):
        write_nifti(tmp_path / part / "case_002.nii.gz", array)
    assert not [f for f in check(tmp_path).findings if "far outside" in f.message]
    image[2, 3, 4] = 1e6
    write_nifti(tmp_path / "imagesTr" / "case_002.nii.gz", image)
    (found,) = (f for f in check(tmp_path).findings if "far outside" in f.message)
    assert found.severity == "note" and found.subject == "case_002" and found.file.endswith("case_002.nii.gz")
    assert found.message.startswith("M0: 1 voxel lies far outside of all others (")
    assert found.message.endswith("1000000 at voxel 3, 4, 5")
    image[:] = 7
    image[2, 3, 4] = 1e6
    write_nifti(tmp_path / "imagesTr" / "case_002.nii.gz", image)
    messages = [f.message for f in check(tmp_path).findings if f.severity == "error"]
    assert any("value 7 in every voxel" in message for message in messages)


def test_ignore_label_is_named_and_no_share_counts_it(tmp_path: Path) -> None:
    folder = write_ignored_balls(tmp_path)
    report = check(folder)
    assert report.ok
    note = next(f for f in report.findings if "left out" in f.message)
    assert note.severity == "note" and "ignore (255)" in note.message and "6 of 6 label maps" in note.message
    assert note.fix == "--ignore none makes it a class"
    facts = report.subjects[0]
    assert list(facts.label_shares) == ["background", "bright", "dark"]
    assert sum(facts.label_shares.values()) == pytest.approx(1)
    assert facts.ignored_share == pytest.approx(SLAB / 24)
    as_class = check(folder, options=DataOptions(ignore="none")).subjects[0]
    assert as_class.label_shares["ignore"] == pytest.approx(SLAB / 24) and as_class.ignored_share == 0


def test_class_named_like_an_ignore_label_is_warned_of_where_another_one_is_left_out(tmp_path: Path) -> None:
    report = check(write_ignored_balls(tmp_path), options=DataOptions(ignore="-1"))
    messages = {f.severity: f.message for f in report.findings if "left out" in f.message}
    assert "ignore is trained on and scored as a class" in messages["warning"]
    assert messages["note"].endswith("it is in no label map")


def test_wholly_ignored_label_map_is_warned_of(tmp_path: Path) -> None:
    folder = write_ignored_balls(tmp_path)
    file = folder / "labelsTr" / "ball_0.nii.gz"
    affine = load(file).affine
    nib.save(nib.Nifti1Image(np.full((20, 24, 18), 255, np.int16), affine), file)
    found = [f for f in check(folder).findings if f.subject == "ball_0" and f.severity == "warning"]
    assert ["background or ignored voxels only" in f.message for f in found] == [True]
