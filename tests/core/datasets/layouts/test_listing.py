"""Listing of a folder: its limit, and which of its files are one image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from core.datasets.doctor import check
from core.datasets.layouts.described_layout import DescribedLayout
from core.datasets.layouts.listing import Listing, list_folder
from core.datasets.layouts.matching import match_files
from core.datasets.layouts.set_description import parse_description
from core.errors import DatasetError


def test_a_folder_of_more_files_than_asked_for_is_refused(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    assert list_folder(tmp_path, max_files=3).images == ("a.nii", "b.nii")
    with pytest.raises(DatasetError, match="expected at most 2 files, got more"):
        list_folder(tmp_path, max_files=2)


@pytest.mark.parametrize("pair", [("s/a.hdr", "s/a.img"), ("s/a.HDR", "s/a.IMG"), ("s/a.hdr", "s/a.img.gz")])
def test_a_pair_is_one_image_listed_by_its_header(pair: tuple[str, str]) -> None:
    assert Listing(Path("/data"), pair).images == pair[:1]
    assert Listing(Path("/data"), ("t/a.hdr", pair[1])).images == ("t/a.hdr", pair[1]), "in another folder"


def test_folders_that_cannot_be_read_or_lie_too_deep_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*"abcdefgh")
    (deep / "i").mkdir(parents=True)
    (tmp_path / "locked").mkdir()
    for folder in (tmp_path, deep, deep / "i", tmp_path / "locked"):
        (folder / "t1.nii").write_bytes(b"")
    scan = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_folder(tmp_path)
    assert listing.files == ("a/b/c/d/e/f/g/h/t1.nii", "t1.nii")
    assert (listing.unreadable, listing.deeper) == (("locked",), ("a/b/c/d/e/f/g/h/i",))
    described = parse_description("test", {"images": "**/{case}.nii", "id": "{case}"})
    warnings = match_files(described, listing).warnings
    assert "1 folder cannot be read, their files are left out: locked" in warnings[0]
    assert "1 folder below 8 others" in warnings[1] and "a/b/c/d/e/f/g/h/i" in warnings[1]
    patterns = parse_description("test", {"images": "{case}.nii", "classes": {"x": 1}})
    dataset = DescribedLayout(patterns).open_listing(listing)
    assert dataset.warnings == warnings
    meanings = [f.meaning for f in check(dataset).findings if f.severity == "warning" and "left out" in f.message]
    assert len(meanings) == 2 and all(meanings)
