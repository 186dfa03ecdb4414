"""Listing of a folder: its limit, and which of its files are one image."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.datasets.layouts.listing import Listing, list_folder
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
