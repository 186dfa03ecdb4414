"""Uploaded files: safe names, a folder per session, removal."""

from __future__ import annotations

import io
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from core.errors import VolumeError
from ui.predict import uploads


@pytest.fixture(autouse=True)
def session(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The session state."""
    state: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", state)
    return state


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("sub-01_T1w.nii.gz", r"sub-01_T1w\.nii\.gz"),
        ("scan.NII", r"scan\.nii"),
        ("../../etc/passwd.nii", r"passwd\.nii"),
        (r"C:\scans\a b.nii", r"a_b-[0-9a-f]{6}\.nii"),
        (".hidden.nii", r"hidden-[0-9a-f]{6}\.nii"),
        ("-rf.nii", r"rf-[0-9a-f]{6}\.nii"),
        (".nii", r"file-[0-9a-f]{6}\.nii"),
        ("脳.nii.gz", r"file-[0-9a-f]{6}\.nii\.gz"),
        ("x" * 300 + ".hdr", r"x{100}-[0-9a-f]{6}\.hdr"),
        ("a\0b\n<b>.nii", r"a_b_b_-[0-9a-f]{6}\.nii"),
    ],
)
def test_unsafe_names_become_safe(name: str, plain: str) -> None:
    found = uploads.safe_name(name, uploads.IMAGES)
    assert re.fullmatch(plain, found) and not found.startswith((".", "-")) and "/" not in found


def test_different_names_stay_different_and_pairs_keep_a_common_stem() -> None:
    def safe(name: str) -> str:
        return uploads.safe_name(name, uploads.IMAGES)

    assert safe("a b.nii") != safe("a_b.nii") != safe("a?b.nii") != safe("a b.nii")
    assert Path(safe("mein Kopf.hdr")).stem == Path(safe("mein Kopf.img")).stem


@pytest.mark.parametrize("name", ["scan.dcm", "nii", "scan.nii.exe", "", "model.safetensors"])
def test_other_file_types_are_refused(name: str) -> None:
    with pytest.raises(VolumeError, match=r"expected a file ending in \.nii, \.nii\.gz"):
        uploads.save(name, io.BytesIO(b"x"), uploads.IMAGES)
    assert uploads.list_uploads(uploads.IMAGES) == []


def test_sessions_see_and_remove_their_own_files_only(session: dict[str, Any]) -> None:
    mine = uploads.save("a.nii", io.BytesIO(b"1"), uploads.IMAGES)
    uploads.save("m.safetensors", io.BytesIO(b"1"), uploads.MODELS)
    assert uploads.list_uploads(uploads.IMAGES) == [mine] and uploads.is_uploaded(mine)
    session.clear()  # another session
    assert uploads.list_uploads(uploads.IMAGES) == []
    uploads.remove(mine)
    assert mine.is_file()


def test_upload_of_the_same_name_replaces_the_file_and_keeps_hard_links() -> None:
    path = uploads.save("a.nii", io.BytesIO(b"first"), uploads.IMAGES)
    os.link(path, path.parent / "linked")
    assert uploads.save("a.nii", io.BytesIO(b"second"), uploads.IMAGES) == path
    assert path.read_bytes() == b"second" and (path.parent / "linked").read_bytes() == b"first"


def test_removing_one_file_of_a_pair_removes_both() -> None:
    for name in ("a.hdr", "a.img", "b.nii"):
        uploads.save(name, io.BytesIO(b"1"), uploads.IMAGES)
    uploads.remove(uploads.session_folder() / "a.hdr")
    assert [path.name for path in uploads.list_uploads(uploads.IMAGES)] == ["b.nii"]


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
    os.utime(old.parent, (past, past))
    os.utime(new.parent, (past, past))
    uploads.list_uploads(uploads.IMAGES)  # the new session is here
    uploads.sweep()
    assert not old.parent.exists() and new.is_file()
