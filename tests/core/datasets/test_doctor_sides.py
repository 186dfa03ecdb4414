"""The data doctor on left and right: pairs, lone sides, suspected pairs, exchanged sides, unknown orientation."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.datasets.doctor import check
from core.datasets.findings import Finding
from tests.support.kidneys import write_kidneys


def findings(folder: Path) -> list[Finding]:
    report = check(folder)
    assert report.ok
    return list(report.findings)


def test_swapped_pair_is_a_note(tmp_path: Path) -> None:
    (note,) = findings(write_kidneys(tmp_path))
    assert note.severity == "note" and note.fix == ""
    assert note.message == "left and right: swapped when an image is mirrored: left kidney / right kidney"


def test_lone_side_is_a_note(tmp_path: Path) -> None:
    (note,) = findings(write_kidneys(tmp_path, ("background", "left kidney", "liver")))
    assert note.severity == "note" and "images are not mirrored, since left kidney has a side" in note.message


def test_classes_that_lie_as_mirror_images_are_suspected_without_names(tmp_path: Path) -> None:
    (note,) = findings(write_kidneys(tmp_path, ("background", "kidney 1", "kidney 2")))
    assert note.severity == "note" and "kidney 1 / kidney 2 lie as mirror images of each other" in note.message
    assert "--lateral swap" in note.fix


def test_exchanged_sides_are_a_warning(tmp_path: Path) -> None:
    warning, note = findings(write_kidneys(tmp_path, mirrored=(2,)))
    assert (warning.severity, note.severity) == ("warning", "note")
    assert warning.message == "left kidney lies to the right of right kidney in 1 of 6 subjects: case_2"


def test_unknown_orientation_is_a_warning_where_classes_have_a_side(tmp_path: Path) -> None:
    warning, *notes = findings(write_kidneys(tmp_path, oriented=False))
    assert warning.severity == "warning" and "left and right of left kidney are unknown in 6 of 6" in warning.message
    assert {f.severity for f in notes} == {"note"} and "images are not mirrored" in " ".join(f.message for f in notes)
    assert not any("lies to the right" in f.message for f in [warning, *notes])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.data
def test_hippocampus_has_no_side(test_data: Path) -> None:
    assert not any("left and right" in f.message for f in check(test_data / "Task04_Hippocampus").findings)
