"""Measures of subjects: known values, and the one subject that is unlike the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.datasets.doctor import check
from core.datasets.measures import MEANINGS, MIN_SUBJECTS, Measure, judge_orientations, judge_outliers, measure
from core.datasets.subject_facts import SubjectFacts
from core.strict_json import dumps
from tests.support.heads import head, write_heads
from tests.support.volume_files import write_nifti


def facts(id: str = "a", **changes: object) -> SubjectFacts:
    found = SubjectFacts(id, (10, 20, 30), (1.0, 2.0, 0.5), "RAS", ("T1", "T2"), labelled=True, voxel_ml=0.001)
    found.label_shares = {"background": 0.75, "GM": 0.25, "WM": 0.0}
    found.medians = {"T1": 40.0}
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_measures_are_those_counted_by_hand() -> None:
    found = {m.title: m for m in measure([facts()], ("T1", "T2"), ("GM", "WM"))}
    assert found["size along j"].values == {"a": 20} and found["voxel size along k"].values == {"a": 0.5}
    assert found["T1, median of the voxels that are not 0"].values == {"a": 40}
    assert found["GM"].values["a"] == pytest.approx(6000 * 1e-3 * 0.25) and found["GM"].unit == "ml"
    assert found["all classes"].values["a"] == pytest.approx(1.5)
    assert found["resident"].values["a"] == pytest.approx(6000 * (2 * 2 + 1) / 2**20)
    assert "T2, median of the voxels that are not 0" not in found, "no value of it is known"


def test_ignored_voxels_count_in_no_class() -> None:
    (gm,) = (m for m in measure([facts(ignored_share=0.5)], (), ("GM",)) if m.title == "GM")
    assert gm.values["a"] == pytest.approx(0.75)


def test_subject_that_cannot_be_read_has_no_measures() -> None:
    assert measure([SubjectFacts("broken")], ("T1",), ("GM",)) == []


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_value_ten_times_off_is_an_outlier_on_either_side(factor: float) -> None:
    values = {str(n): 50.0 + n for n in range(MIN_SUBJECTS - 1)} | {"odd": 50.0 * factor}
    assert Measure("GM", "labels", "ml", values).outliers == ("odd",)


def test_values_that_spread_over_orders_of_magnitude_have_no_outliers() -> None:
    values = {str(n): float(v) for n, v in enumerate(np.geomspace(0.1, 1000, 30))}
    assert Measure("lesion", "labels", "ml", values).outliers == ()


def test_few_subjects_equal_values_and_zeros_have_no_outliers() -> None:
    few = {str(n): 1.0 for n in range(MIN_SUBJECTS - 2)} | {"odd": 100.0}
    assert Measure("x", "size", "voxels", few).outliers == ()
    same = {str(n): 1.0 for n in range(20)} | {"near": 1.4, "absent": 0.0}
    assert Measure("x", "labels", "ml", same).outliers == ()


def test_memory_is_no_reason_of_its_own() -> None:
    values = {str(n): 1.0 for n in range(20)} | {"odd": 9.0}
    assert judge_outliers([Measure("resident", "memory", "MB", values)]) == []
    (found,) = judge_outliers([Measure("size along i", "size", "voxels", values)])
    assert found.subject == "odd" and found.severity == "note" and found.meaning and found.fix
    assert found.message == "unlike the other subjects: size along i: 9 voxels, in most others 1 voxels"


def test_many_subjects_that_are_unlike_the_others_are_one_note() -> None:
    values = {str(n): 500.0 for n in range(20)} | {f"odd {n}": 2e5 + n for n in range(4)}
    (found,) = judge_outliers([Measure("T1", "intensity", "", values)])
    assert found.message == (
        "4 of 24 subjects are unlike the others, odd 3, odd 2, odd 1, odd 0: T1: 200000 to 200003, in most others 500"
    )
    assert found.subject == "" and set(found.subjects) == {"odd 0", "odd 1", "odd 2", "odd 3"}


def test_meaning_of_a_note_is_that_of_the_measure_it_names() -> None:
    intensities = {str(n): 500.0 for n in range(20)} | {f"odd {n}": 2e5 + n for n in range(4)}
    volumes = {str(n): 10.0 for n in range(20)} | {"odd 0": 500.0}
    findings = judge_outliers([Measure("T1", "intensity", "", intensities), Measure("GM", "labels", "ml", volumes)])
    (of_one,) = (found for found in findings if found.subject)
    assert "GM: 500 ml" in of_one.message and of_one.meaning == MEANINGS["labels"]


def test_volumes_are_those_of_sheared_voxels(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = 5 * np.tan(np.deg2rad(30))
    folder = write_heads(tmp_path, 1)
    image, label = head(1)
    write_nifti(folder / "imagesTr" / "case_1.nii.gz", image, affine)
    write_nifti(folder / "labelsTr" / "case_1.nii.gz", label, affine)
    (volume,) = (m for m in check(folder).measures if m.title == "blob")
    assert volume.values["case_1"] == pytest.approx(np.count_nonzero(label) * 0.005)


@pytest.mark.slow
def test_case_unlike_the_others_is_named_in_the_report(tmp_path: Path) -> None:
    folder = write_heads(tmp_path, 9)
    assert not [f for f in check(folder).findings if "unlike" in f.message]
    image, _ = head(4, noise=4.0)
    write_nifti(folder / "imagesTr" / "case_4.nii.gz", image * 100, np.eye(4))
    report = json.loads(dumps(check(folder).to_json()))
    (found,) = (f for f in report["findings"] if "unlike" in f["message"])
    assert found["subject"] == "case_4" and "CT, median" in found["message"]
    (intensity,) = (m for m in report["measures"] if m["group"] == "intensity")
    assert intensity["outliers"] == ["case_4"] and len(intensity["values"]) == 9


def test_the_one_subject_that_is_stored_in_another_orientation_is_named() -> None:
    usual = [facts(f"s{n}") for n in range(MIN_SUBJECTS - 1)]
    (found,) = judge_orientations([*usual, facts("odd", orientation="LAS")])
    assert (found.severity, found.subject) == ("note", "odd") and found.meaning and found.fix
    assert found.message == "unlike the other subjects: stored as LAS, 7 of 8 as RAS"
    assert judge_orientations([*usual, SubjectFacts("unread")]) == []
    assert judge_orientations([*usual[1:], facts("odd", orientation="LAS")]) == [], "too few to say what is usual"
    assert judge_orientations([*usual, *(facts(f"l{n}", orientation="LAS") for n in range(4))]) == [], "two kinds"
    (many,) = judge_orientations(
        [*(facts(f"s{n}") for n in range(60)), *(facts(f"l{n}", orientation="LPS") for n in range(5))]
    )
    assert many.subjects == ("l0", "l1", "l2", "l3", "l4") and "5 of 65 subjects" in many.message


def test_an_orientation_unlike_the_others_is_in_the_report(tmp_path: Path) -> None:
    folder = write_heads(tmp_path / "data", MIN_SUBJECTS)
    image, label = head(3)
    for part, values in (("imagesTr", image), ("labelsTr", label)):
        write_nifti(folder / part / "case_3.nii.gz", values[::-1], np.diag([-1.0, 1, 1, 1]))
    (found,) = (f for f in check(folder).findings if "stored as" in f.message)
    assert found.subject == "case_3" and "stored as LAS" in found.message
