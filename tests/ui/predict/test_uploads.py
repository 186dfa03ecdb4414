"""Uploaded files: plain names, a folder of the session's own, nothing left behind."""

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
    """A session without a server."""
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
def test_names_become_plain(name: str, plain: str) -> None:
    found = uploads.safe_name(name, uploads.IMAGES)
    assert re.fullmatch(plain, found) and not found.startswith((".", "-")) and "/" not in found


def test_two_names_stay_two_and_a_pair_stays_a_pair() -> None:
    def safe(name: str) -> str:
        return uploads.safe_name(name, uploads.IMAGES)

    assert safe("a b.nii") != safe("a_b.nii") != safe("a?b.nii") != safe("a b.nii")
    assert Path(safe("mein Kopf.hdr")).stem == Path(safe("mein Kopf.img")).stem


@pytest.mark.parametrize("name", ["scan.dcm", "nii", "scan.nii.exe", "", "model.safetensors"])
def test_other_kinds_are_refused(name: str) -> None:
    with pytest.raises(VolumeError, match=r"expected a file ending in \.nii, \.nii\.gz"):
        uploads.take(name, io.BytesIO(b"x"), uploads.IMAGES)
    assert uploads.kept(uploads.IMAGES) == []


def test_what_a_session_uploads_is_its_own(session: dict[str, Any]) -> None:
    mine = uploads.take("a.nii", io.BytesIO(b"1"), uploads.IMAGES)
    uploads.take("m.safetensors", io.BytesIO(b"1"), uploads.MODELS)
    assert uploads.kept(uploads.IMAGES) == [mine] and uploads.is_uploaded(mine)
    session.clear()  # another session
    assert uploads.kept(uploads.IMAGES) == []
    uploads.remove(mine)
    assert mine.is_file(), "nobody removes another session's file"


def test_the_same_name_again_replaces_the_file_and_not_what_was_linked_to_it() -> None:
    path = uploads.take("a.nii", io.BytesIO(b"first"), uploads.IMAGES)
    os.link(path, path.parent / "linked")
    assert uploads.take("a.nii", io.BytesIO(b"second"), uploads.IMAGES) == path
    assert path.read_bytes() == b"second" and (path.parent / "linked").read_bytes() == b"first"


def test_removing_a_pair_removes_both() -> None:
    for name in ("a.hdr", "a.img", "b.nii"):
        uploads.take(name, io.BytesIO(b"1"), uploads.IMAGES)
    uploads.remove(uploads.session_folder() / "a.hdr")
    assert [path.name for path in uploads.kept(uploads.IMAGES)] == ["b.nii"]


def test_a_full_disk_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(VolumeError, match=r"a\.nii: expected room .* No space left on device"):
        uploads.take("a.nii", io.BytesIO(b"1"), uploads.IMAGES)
    assert uploads.kept(uploads.IMAGES) == []


def test_what_old_sessions_left_goes(session: dict[str, Any]) -> None:
    old = uploads.take("a.nii", io.BytesIO(b"1"), uploads.IMAGES)
    session.clear()
    new = uploads.take("a.nii", io.BytesIO(b"1"), uploads.IMAGES)
    past = time.time() - uploads.KEPT_S - 60
    os.utime(old.parent, (past, past))
    os.utime(new.parent, (past, past))
    uploads.kept(uploads.IMAGES)  # the new session is here
    uploads.sweep()
    assert not old.parent.exists() and new.is_file()
