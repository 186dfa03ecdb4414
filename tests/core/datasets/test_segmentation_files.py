"""Files of segmentations belong to the cases that they are named as, and to no other one."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.datasets import open_dataset
from core.datasets.segmentation_files import (
    match_files,
    other_raters,
    rater_files,
    segmentations_below,
)
from core.errors import DatasetError
from tests.support.balls import write_balls


def matched(names: list[str], ids: list[str]) -> dict[str, str]:
    return {id: path.name for id, path in match_files([Path("f") / name for name in names], ids).files.items()}


def test_a_file_belongs_to_the_case_that_it_is_named_as() -> None:
    ids = ["case_1", "case_10", "case_1_b", "sub-01"]
    names = ["case_10.nii.gz", "case_1_b_seg.nrrd", "sub-01.dcm", "case_1-pred.nii"]
    expected = {"case_1": "case_1-pred.nii", "case_10": "case_10.nii.gz", "case_1_b": "case_1_b_seg.nrrd"}
    assert matched(names, ids) == {**expected, "sub-01": "sub-01.dcm"}


def test_a_name_that_only_begins_alike_belongs_to_no_case() -> None:
    found = match_files([Path("case_100.nii.gz"), Path("xcase_1.nii.gz"), Path("Case_1.nii.gz")], ["case_1", "case_10"])
    assert not found.files and len(found.unmatched) == 3


def test_several_files_of_a_case_are_none_unless_one_has_exactly_its_name() -> None:
    paths = [Path("a_t1.nii.gz"), Path("a_seg.nii.gz"), Path("b.nii.gz"), Path("b_old.nii.gz"), Path("x/c.nii")]
    found = match_files([*paths, Path("y/c.nii")], ["a", "b", "c"])
    assert found.files == {"b": paths[2]}
    assert found.ambiguous == {"a": tuple(paths[:2]), "c": (Path("x/c.nii"), Path("y/c.nii"))}


def test_a_folder_is_listed_with_one_file_for_each_image(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.hdr", "b.img", "sub/c.nrrd", ".d.nii", "notes.txt", "series.dcm", ".hidden/e.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in segmentations_below(tmp_path)]
    assert found == ["a.nii.gz", "b.hdr", "sub/c.nrrd"]
    with pytest.raises(DatasetError, match="expected a folder of segmentation files"):
        segmentations_below(tmp_path / "gone")


def test_a_folder_that_links_to_itself_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "case_1.nii.gz").touch()
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "case_2.nii.gz").touch()
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    found = match_files(segmentations_below(tmp_path), ["case_1", "case_2"])
    assert list(found.files) == ["case_1", "case_2"] and not found.ambiguous


def test_a_folder_that_cannot_be_read_is_an_error_and_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetError, match="1 folder cannot be read, their files are left out: closed"):
        segmentations_below(tmp_path)


def test_a_rater_has_the_label_maps_that_are_not_the_reference(tmp_path: Path) -> None:
    dataset = open_dataset(write_balls(tmp_path, subjects=3))
    own, other = [s.label for s in dataset.subjects], tmp_path / "other.nii.gz"
    raters: list[dict[str, Path]] = [{"ann": Path(str(own[0])), "ben": other}, {"ben": Path(str(own[1]))}, {}]
    subjects = tuple(replace(s, raters=of_case) for s, of_case in zip(dataset.subjects, raters, strict=True))
    dataset = replace(dataset, subjects=subjects)
    assert other_raters(dataset) == ["ben"] and rater_files(dataset, "ben") == {"ball_0": other}
    with pytest.raises(DatasetError, match=r"one of the raters ben beside the reference, got 'ann'"):
        rater_files(dataset, "ann")
