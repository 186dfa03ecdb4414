"""Results of the Predict page on disk: one name for one request, own copies of uploads, old ones removed."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from core.datasets import ImageRef
from core.errors import RunError
from ui.predict import segmentations, uploads
from ui.predict.segmentations import Request
from ui.shared import jobs

LABELS = [{"name": "air", "colour": "#000000", "raw": 0}, {"name": "one", "colour": "#ffffff", "raw": 1}]


@pytest.fixture(autouse=True)
def started(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """What child processes would have been given; none is started, and there is a session."""
    found: list[Sequence[str]] = []
    monkeypatch.setattr(jobs, "_start", lambda folder, arguments: found.append(arguments))
    monkeypatch.setattr(st, "session_state", dict[str, Any]())
    return found


@pytest.fixture
def request_here(tmp_path: Path) -> Request:
    for name in ("model.safetensors", "a.nii", "b.nii.gz"):
        (tmp_path / name).write_bytes(b"1")
    images = (ImageRef(tmp_path / "a.nii"), ImageRef(tmp_path / "b.nii.gz", 2))
    return Request("run-1", "My run", tmp_path / "model.safetensors", LABELS, ("T1", "T2"), images, (1, 3), False)


def test_what_was_asked_comes_back_and_is_what_is_run(request_here: Request, started: list[Sequence[str]]) -> None:
    id = segmentations.start(request_here)
    assert segmentations.read(id) == request_here
    a, b = map(str, request_here.paths)
    out = str(segmentations.output(id))
    assert started == [
        ["predict", str(request_here.checkpoint), a, b, "--channels", "1,3", "--out", out, "--json", "--progress"]
    ]
    assert request_here.command == (f"python -m core predict run-1 {a} {b} --channels 1,3 --out a-segmentation.nii.gz")


def test_the_same_request_has_the_same_name_until_a_file_changes(request_here: Request) -> None:
    id = segmentations.start(request_here)
    assert segmentations.start(request_here) == id
    swapped = replace(request_here, images=request_here.images[::-1])
    assert segmentations.start(swapped) != id != segmentations.start(replace(request_here, channels=(1, 2)))
    request_here.paths[0].write_bytes(b"22")
    assert segmentations.start(request_here) != id


def test_uploads_are_kept_with_the_result(tmp_path: Path, request_here: Request, started: list[Sequence[str]]) -> None:
    for name in ("x.hdr", "x.img"):
        uploads.take(name, io.BytesIO(name.encode()), uploads.IMAGES)
    header = uploads.session_folder() / "x.hdr"
    id = segmentations.start(replace(request_here, images=(ImageRef(header),), channels=(), uploaded=True))
    uploads.remove(header)
    kept = segmentations.read(id)
    assert kept is not None and kept.paths[0].read_bytes() == b"x.hdr" and kept.paths[0] != header
    assert kept.paths[0].with_suffix(".img").read_bytes() == b"x.img"
    assert kept.checkpoint == request_here.checkpoint, "what lies on the server stays where it is"
    assert str(kept.paths[0]) in started[0] and "x.hdr --out x-segmentation.nii.gz" in kept.command
    segmentations.again(id)
    assert started[1] == started[0] and kept.paths[0].is_file(), "once more, with the same files"
    segmentations.remove(id)
    assert segmentations.read(id) is None and not kept.paths[0].exists()
    with pytest.raises(RunError, match="found it gone"):
        segmentations.again(id)


@pytest.mark.parametrize("id", ["", "..", "../../x", "0" * 15, "g" * 16, "A" * 16, "0" * 16])
def test_names_that_are_none(id: str, checkpoints: Path) -> None:
    (checkpoints / "precious").write_text("1")
    assert segmentations.read(id) is None
    segmentations.remove(id)
    assert (checkpoints / "precious").exists()


def test_a_damaged_request_is_none(request_here: Request) -> None:
    id = segmentations.start(request_here)
    for text in ("", "{", "[]", '{"model": 1}'):
        (segmentations.output(id).parent / "request.json").write_text(text)
        assert segmentations.read(id) is None


def test_old_results_go_those_of_uploads_first(request_here: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    here = segmentations.start(request_here)
    uploaded = segmentations.start(replace(request_here, uploaded=True, channels=(1, 1)))
    past = time.time() - 2 * segmentations.UPLOADED_KEPT_S
    for id in (here, uploaded):
        os.utime(segmentations.output(id).parent, (past, past))
    segmentations.sweep()
    assert segmentations.read(here) is not None and segmentations.read(uploaded) is None
    monkeypatch.setattr(segmentations, "MOST", 1)
    new = segmentations.start(replace(request_here, channels=(1, 2)))
    segmentations.sweep()
    assert segmentations.read(here) is None and segmentations.read(new) is not None


def test_a_cache_that_cannot_be_written(request_here: Request, checkpoints: Path) -> None:
    (checkpoints / ".cache").write_text("a file")
    with pytest.raises(RunError, match="expected to be able to write there"):
        segmentations.start(request_here)
