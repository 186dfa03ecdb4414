"""Hashes of files change with what a cached result depends on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ui.shared.hashes import files_hash, short_hash


def test_text_that_is_not_unicode_has_a_hash() -> None:
    assert short_hash("a\udc80") != short_hash("a")


def test_files_hash_changes_with_prefix_order_size_time_and_data_file(tmp_path: Path) -> None:
    header, data, other = tmp_path / "a.hdr", tmp_path / "a.img", tmp_path / "b.nii"
    for path in (header, data, other):
        path.write_bytes(b"1")
        os.utime(path, (1, 1))
    files = [header, other]
    hashes = {files_hash("p", files), files_hash("q", files), files_hash("p", files[::-1]), files_hash("p", [header])}
    names = files_hash("p", files, with_stat=False)
    other.write_bytes(b"22")
    os.utime(other, (1, 1))
    hashes.add(files_hash("p", files))
    os.utime(other, (2, 2))
    hashes.add(files_hash("p", files))
    data.unlink()  # only the header is named
    hashes.add(files_hash("p", files))
    assert len(hashes) == 7
    assert files_hash("p", files, with_stat=False) == names


@pytest.mark.parametrize(("named", "other"), [("a.img", "a.hdr"), ("A.HDR", "A.IMG"), ("a.hdr.gz", "a.img.gz")])
def test_files_hash_changes_with_either_file_of_a_pair(tmp_path: Path, named: str, other: str) -> None:
    for name in (named, other):
        (tmp_path / name).write_bytes(b"1")
    before = files_hash("p", [tmp_path / named])
    (tmp_path / other).write_bytes(b"22")
    assert files_hash("p", [tmp_path / named]) != before
