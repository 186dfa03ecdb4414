"""Findings of the doctor: those that say the same of many files are one."""

from __future__ import annotations

from core.datasets.findings import MAX_ALIKE, Finding, merge_alike


def test_notes_on_several_files_are_one_and_warnings_only_where_they_are_many() -> None:
    note, other = (Finding("note", "no unit", "s", f"/a/{n}.nii") for n in (1, 2))
    lone = Finding("note", "sheared", "s", "/a/1.nii")
    general = Finding("note", "no unit")
    few = [Finding("warning", "one-hot", "s", f"/a/{n}.nii", "look") for n in range(MAX_ALIKE["warning"])]
    assert merge_alike([note, lone, other, general, *few]) == [
        Finding("note", "no unit (2 files, such as 1.nii)"), lone, general, *few
    ]  # fmt: skip
    many = [*few, Finding("warning", "one-hot", "s", "/a/x.nii", "look")]
    assert merge_alike(many) == [Finding("warning", "one-hot (11 files, such as 0.nii)", fix="look")]
    errors = [Finding("error", "cut off", "s", f"/a/{n}.nii") for n in range(20)]
    assert merge_alike(errors) == errors
