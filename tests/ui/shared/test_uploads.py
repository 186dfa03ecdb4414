"""Uploaded files: safe names, a folder per session, removal."""

from __future__ import annotations

import io
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from core.errors import DatasetError, VolumeError
from core.imaging.image_files import partner_of
from ui.shared import uploads


@pytest.fixture(autouse=True)
def session(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The session state."""
    state: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", state)
    return state


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("sub-01_T1w.nii.gz", "sub-01_T1w.nii.gz"),
        ("scan.NII", "scan.nii"),
        ("../../etc/passwd.nii", "passwd.nii"),
        (r"C:\scans\a b.nii", "a b.nii"),
        (".hidden.nii", "hidden.nii"),
        ("-rf.nii", "rf.nii"),
        (".nii", "file.nii"),
        ("脳.nii.gz", "脳.nii.gz"),
        ("Mu\u0308ller é.nii", "Müller é.nii"),
        ("x" * 300 + ".hdr", "x" * 180 + ".hdr"),
        ("脳" * 300 + ".hdr", "脳" * 60 + ".hdr"),
        ("a\0b\n<b>.nii", "a_b_b_.nii"),
        ("\ud800.nii", "_.nii"),
    ],
)
def test_names_keep_letters_of_all_scripts_and_lose_what_is_unsafe(name: str, safe: str) -> None:
    found = uploads.safe_name(name, uploads.IMAGES)
    assert found == safe and len(found.encode()) < 255


@pytest.mark.parametrize("name", ["scan.vtk", "nii", "scan.nii.exe", "", "model.safetensors"])
def test_other_file_types_are_refused(name: str) -> None:
    with pytest.raises(VolumeError, match=r"expected a file ending in \.nii, \.nii\.gz"):
        uploads.save(name, io.BytesIO(b"x"), uploads.IMAGES)
    assert uploads.list_uploads(uploads.IMAGES) == []


def test_refusal_says_what_the_file_is_and_what_is_accepted() -> None:
    with pytest.raises(VolumeError, match="got a VTK file; convert it") as refused:
        uploads.save("IM0001", io.BytesIO(b"# vtk DataFile Version 3.0"), uploads.IMAGES)
    assert uploads.ACCEPTED[uploads.IMAGES] in str(refused.value)
    with pytest.raises(VolumeError, match=r"Accepted: a checkpoint \(\.safetensors\)\."):
        uploads.save("model.pth", io.BytesIO(b"x"), uploads.MODELS)


def test_dicom_files_that_are_uploaded_together_are_one_series() -> None:
    start = b"\0" * 128 + b"DICM"
    folders = {uploads.save(name, io.BytesIO(start), uploads.IMAGES, "series 1") for name in ("IM1", "IM2.dcm")}
    (first,) = folders
    other = uploads.save("IM1", io.BytesIO(start), uploads.IMAGES, "series 2")
    image = uploads.save("a.mgz", io.BytesIO(b"1"), uploads.IMAGES)
    assert sorted(p.name for p in first.iterdir()) == ["IM1.dcm", "IM2.dcm"]
    assert uploads.list_uploads(uploads.IMAGES) == [first, other, image]
    uploads.remove(first)
    assert uploads.list_uploads(uploads.IMAGES) == [other, image]


def test_an_archive_is_unpacked_and_removed_as_a_whole() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("patient/scan.nii.gz", b"1")
        archive.writestr("patient/series/IM1", b"\0" * 128 + b"DICM")
        archive.writestr("notes.txt", b"1")
    packed.seek(0)
    folder = uploads.save("all.zip", packed, uploads.IMAGES)
    found = uploads.list_uploads(uploads.IMAGES)
    assert found == [folder / "patient" / "scan.nii.gz", folder / "patient" / "series"]
    uploads.remove(found[1])
    assert uploads.list_uploads(uploads.IMAGES) == []


@pytest.mark.parametrize(("name", "reason"), [("../evil.nii", "leaves it"), ("notes.txt", "found none")])
def test_an_unsafe_or_useless_archive_is_refused(name: str, reason: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, b"1")
    packed.seek(0)
    with pytest.raises(DatasetError, match=reason):
        uploads.save("all.zip", packed, uploads.IMAGES)
    assert uploads.list_uploads(uploads.IMAGES) == []


def test_sessions_see_and_remove_their_own_files_only(session: dict[str, Any]) -> None:
    mine = uploads.save("a.nii", io.BytesIO(b"1"), uploads.IMAGES)
    uploads.save("m.safetensors", io.BytesIO(b"1"), uploads.MODELS)
    assert uploads.list_uploads(uploads.IMAGES) == [mine] and uploads.is_uploaded(mine)
    session.clear()  # another session
    assert uploads.list_uploads(uploads.IMAGES) == []
    uploads.remove(mine)
    assert mine.is_file()


def test_two_uploads_of_one_name_are_two_files() -> None:
    paths = [uploads.save("a.nii", io.BytesIO(content), uploads.IMAGES) for content in (b"first", b"second")]
    assert [path.read_bytes() for path in paths] == [b"first", b"second"]
    assert uploads.list_uploads(uploads.IMAGES) == paths
    assert list(uploads.display_names(paths).values()) == ["a.nii", "a (2).nii"]
    message = f"{paths[1]}: expected this, got that"
    assert uploads.without_session_folder(message) == "a.nii: expected this, got that"


def test_files_of_a_pair_find_each_other_and_are_removed_together() -> None:
    for name in ("a.hdr", "b.nii", "a.img", "a.img", "a.hdr"):
        uploads.save(name, io.BytesIO(b"1"), uploads.IMAGES)
    pairs = [path for path in uploads.list_uploads(uploads.IMAGES) if path.suffix == ".hdr"]
    assert len(pairs) == 2 and all(path.with_suffix(".img").is_file() for path in pairs)
    uploads.remove(pairs[0])
    assert [path.name for path in uploads.list_uploads(uploads.IMAGES)] == ["b.nii", "a.hdr", "a.img"]


def test_gzipped_pairs_and_pairs_in_capitals_are_one_image() -> None:
    header = uploads.save("a.HDR.gz", io.BytesIO(b"1"), uploads.IMAGES)
    voxels = uploads.save("a.img", io.BytesIO(b"1"), uploads.IMAGES)
    assert voxels.parent == header.parent and partner_of(header) == voxels
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("B.HDR", "B.IMG"):
            archive.writestr(name, b"1")
    packed.seek(0)
    folder = uploads.save("pair.zip", packed, uploads.IMAGES)
    assert partner_of(folder / "B.IMG") == folder / "B.HDR"
    assert [p.name for p in uploads.list_uploads(uploads.IMAGES)] == ["a.hdr.gz", "a.img", "B.HDR", "B.IMG"]


def test_full_disk_is_reported_and_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(VolumeError, match=r"a\.nii: expected space .* No space left on device"):
        uploads.save("a.nii", io.BytesIO(b"1"), uploads.IMAGES)
    assert uploads.list_uploads(uploads.IMAGES) == []


def test_files_of_inactive_sessions_are_removed(session: dict[str, Any]) -> None:
    old = uploads.save("a.nii", io.BytesIO(b"1"), uploads.IMAGES)
    session.clear()
    new = uploads.save("a.nii", io.BytesIO(b"1"), uploads.IMAGES)
    past = time.time() - uploads.MAX_AGE_S - 60
    os.utime(old.parent.parent, (past, past))
    os.utime(new.parent.parent, (past, past))
    uploads.list_uploads(uploads.IMAGES)  # the new session is here
    uploads.remove_stale()
    assert not old.parent.parent.exists() and new.is_file()
