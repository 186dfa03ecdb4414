"""Results of the Predict page on disk: ids, copies of uploads, removal of old results."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st

from core.datasets import ImageRef
from core.errors import RunError
from core.imaging.volume import read_header, read_label, write_label
from tests.support.background_jobs import poll
from tests.support.dicom_labels import write_case
from tests.support.foreign_volumes import oblique_affine, phantom
from ui.predict import batches, segmentations
from ui.predict.segmentations import Request
from ui.shared import jobs, uploads

LABELS = [{"name": "air", "colour": "#000000", "raw": 0}, {"name": "one", "colour": "#ffffff", "raw": 1}]


@pytest.fixture(autouse=True)
def commands(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The arguments of child processes, none of which is started; a session state."""
    arguments_of_jobs: list[Sequence[str]] = []
    monkeypatch.setattr(jobs, "start", lambda folder, arguments: arguments_of_jobs.append(arguments))
    monkeypatch.setattr(st, "session_state", dict[str, Any]())
    return arguments_of_jobs


@pytest.fixture
def server_request(tmp_path: Path) -> Request:
    for name in ("model.safetensors", "a.nii", "b.nii.gz"):
        (tmp_path / name).write_bytes(b"1")
    images = (ImageRef(tmp_path / "a.nii"), ImageRef(tmp_path / "b.nii.gz", 2))
    return Request("run-1", "My run", tmp_path / "model.safetensors", LABELS, ("T1", "T2"), images, (1, 3), False)


def test_request_is_stored_and_its_command_is_run(server_request: Request, commands: list[Sequence[str]]) -> None:
    id = segmentations.start(server_request)
    assert segmentations.read(id) == server_request
    a, b = map(str, server_request.paths)
    out = str(segmentations.output(id))
    assert commands == [
        ["predict", str(server_request.checkpoint), a, b, "--channels", "1,3", "--out", out, "--json", "--progress"]
    ]
    assert server_request.command == (
        f"python -m core predict run-1 {a} {b} --channels 1,3 --out a-segmentation.nii.gz"
    )


@pytest.mark.long
def test_a_result_of_a_dicom_series_is_saved_as_dicom_too(tmp_path: Path) -> None:
    array, affine = phantom((6, 7, 5)), oblique_affine()
    series = write_case(tmp_path / "im", array, affine)
    (tmp_path / "model.safetensors").write_bytes(b"1")
    request = Request("run-1", "Mine", tmp_path / "model.safetensors", LABELS, ("MR",), (ImageRef(series),), (), False)
    id = segmentations.start(request)
    header = read_header(series)
    index = (np.arange(6 * 7 * 5).reshape(header.geometry.canonical.shape) % 2).astype(np.uint8)
    write_label(segmentations.output(id), index, header.geometry)
    file = segmentations.dicom_segmentation(id, request)
    np.testing.assert_array_equal(read_label(Path(shutil.copy(file, tmp_path / "seg.dcm"))).data[0], index)
    written = file.stat().st_mtime_ns
    assert segmentations.dicom_segmentation(id, request).stat().st_mtime_ns == written, "it is written once"


def test_postprocessing_is_part_of_the_request(server_request: Request, commands: list[Sequence[str]]) -> None:
    without = replace(server_request, postprocess=False)
    assert segmentations.id_of(without) != segmentations.id_of(server_request)
    assert segmentations.read(segmentations.start(without)) == without
    assert "--no-postprocessing" in commands[0] and "--no-postprocessing" in without.command


def test_same_request_has_the_same_id_until_a_file_changes(server_request: Request) -> None:
    id = segmentations.start(server_request)
    assert segmentations.start(server_request) == id
    swapped = replace(server_request, images=server_request.images[::-1])
    assert segmentations.start(swapped) != id != segmentations.start(replace(server_request, channels=(1, 2)))
    server_request.paths[0].write_bytes(b"22")
    assert segmentations.start(server_request) != id


def test_a_changed_file_of_a_series_is_another_request(tmp_path: Path, server_request: Request) -> None:
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"1")
    request = replace(server_request, images=(ImageRef(series),))
    id = segmentations.id_of(request)
    (series / "1.dcm").write_bytes(b"22")
    assert segmentations.id_of(request) != id


def test_uploads_are_copied_to_the_result(
    tmp_path: Path, server_request: Request, commands: list[Sequence[str]]
) -> None:
    for name in ("x.hdr", "x.img"):
        uploads.save(name, io.BytesIO(name.encode()), uploads.IMAGES)
    header = uploads.list_uploads(uploads.IMAGES)[0]
    id = segmentations.start(replace(server_request, images=(ImageRef(header),), channels=(), uploaded=True))
    uploads.remove(header)
    kept = segmentations.read(id)
    assert kept is not None and kept.paths[0].read_bytes() == b"x.hdr" and kept.paths[0] != header
    assert kept.paths[0].with_suffix(".img").read_bytes() == b"x.img"
    assert kept.checkpoint == server_request.checkpoint, "server files are not copied"
    assert str(kept.paths[0]) in commands[0] and "x.hdr --out x-segmentation.nii.gz" in kept.command
    segmentations.restart(id)
    assert commands[1] == commands[0] and kept.paths[0].is_file(), "restarted with the same files"
    segmentations.remove(id)
    assert segmentations.read(id) is None and not kept.paths[0].exists()
    with pytest.raises(RunError, match="found none"):
        segmentations.restart(id)


def test_two_uploads_of_one_name_are_both_copied(server_request: Request) -> None:
    paths = [uploads.save("x.nii", io.BytesIO(content), uploads.IMAGES) for content in (b"1", b"2")]
    images = tuple(map(ImageRef, paths))
    kept = segmentations.read(segmentations.start(replace(server_request, images=images, channels=(), uploaded=True)))
    assert kept is not None and [path.read_bytes() for path in kept.paths] == [b"1", b"2"]


def test_images_of_one_name_in_folders_of_one_name_of_archives_are_all_copied(server_request: Request) -> None:
    for contents in ((b"1", b"2"), (b"3",)):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for case, content in enumerate(contents):
                archive.writestr(f"case{case}/images/x.nii", content)
        packed.seek(0)
        uploads.save("all.zip", packed, uploads.IMAGES)
    images = tuple(map(ImageRef, uploads.list_uploads(uploads.IMAGES)))
    kept = segmentations.read(segmentations.start(replace(server_request, images=images, channels=(), uploaded=True)))
    assert kept is not None and [path.read_bytes() for path in kept.paths] == [b"1", b"2", b"3"]


def test_segmentations_of_a_batch_start_in_turn_unless_they_are_cancelled(
    server_request: Request, commands: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first_runs, first_may_end = threading.Event(), threading.Event()

    def wait(_: Path) -> str:
        first_runs.set()
        first_may_end.wait(20)
        return ""

    monkeypatch.setattr(jobs, "wait", wait)
    requests = {str(n): replace(server_request, channels=(n, n)) for n in (1, 2, 3)}
    id = batches.start(requests)
    cases = batches.read(id)
    assert list(cases) == ["1", "2", "3"] and id == batches.id_of(requests)
    assert first_runs.wait(20) and len(commands) == 1
    assert segmentations.observe(cases["2"]).message == "after others" and segmentations.is_running(cases["3"])
    segmentations.remove(cases["2"])
    first_may_end.set()
    poll(lambda: len(commands), lambda n: n == 2)
    assert "3,3" in commands[1]
    segmentations.remove_stale()
    assert batches.read(id) == cases
    batches.remove(id)
    assert batches.read(id) == {} and segmentations.read(cases["1"]) is None


@pytest.mark.parametrize("id", ["", "..", "../../x", "0" * 15, "g" * 16, "A" * 16, "0" * 16])
def test_invalid_or_unknown_ids_have_no_request(id: str, checkpoints: Path) -> None:
    (checkpoints / "precious").write_text("1")
    assert segmentations.read(id) is None
    segmentations.remove(id)
    assert (checkpoints / "precious").exists()


def test_damaged_request_is_ignored(server_request: Request) -> None:
    id = segmentations.start(server_request)
    for text in ("", "{", "[]", '{"model": 1}'):
        (segmentations.output(id).parent / "request.json").write_text(text)
        assert segmentations.read(id) is None


def test_old_results_are_removed_those_of_uploads_first(
    server_request: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_files = segmentations.start(server_request)
    uploaded = segmentations.start(replace(server_request, uploaded=True, channels=(1, 1)))
    past = time.time() - 2 * segmentations.MAX_AGE_OF_UPLOADS_S
    for id in (server_files, uploaded):
        os.utime(segmentations.output(id).parent, (past, past))
    segmentations.remove_stale()
    assert segmentations.read(server_files) is not None and segmentations.read(uploaded) is None
    monkeypatch.setattr(segmentations, "MAX_RESULTS", 1)
    new = segmentations.start(replace(server_request, channels=(1, 2)))
    segmentations.remove_stale()
    assert segmentations.read(server_files) is None and segmentations.read(new) is not None


def test_unwritable_cache_is_reported(server_request: Request, checkpoints: Path) -> None:
    (checkpoints / ".cache").write_text("a file")
    with pytest.raises(RunError, match="expected a writable folder"):
        segmentations.start(server_request)


def test_refused_segmentation_is_started_again_with_nan_as_zero(
    server_request: Request, commands: list[Sequence[str]]
) -> None:
    id = segmentations.start(server_request)
    segmentations.restart(id, nan_is_zero=True)
    assert "--nan-is-zero" not in commands[0] and "--nan-is-zero" in commands[1]
    kept = segmentations.read(id)
    assert kept is not None and kept.nan_is_zero and "--nan-is-zero" in kept.command
