"""The search for errors of a case: by the command in a child process, with reasons of failures, beside other work."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.requests import Request

from core.datasets import open_dataset
from core.errors import VolumeError
from core.imaging.display import Grid
from core.runs.predictions import Prediction
from tests.support.balls import write_balls
from ui.review import findings
from ui.shared.hashes import files_hash
from ui.shared.heavy_work import MAX_AT_ONCE, heavy_work
from ui.viewer import volumes
from ui.viewer.scenes import Scene

SCENE = Scene(Grid((2, 2, 2), (1, 1, 1), None), (), "/x", layers={"truth": "/t", "prediction": "/p"})


@pytest.fixture
def kept(tmp_path: Path, checkpoints: Path) -> tuple[Path, Prediction]:
    """A data set, and a prediction of its first subject."""
    file = tmp_path / "kept.nii.gz"
    file.write_bytes(b"label map")
    return write_balls(tmp_path / "balls", subjects=2), Prediction("ball_0", file, None, 1, 1, "", 0.0)


def test_no_search_without_reference_or_prediction(kept: tuple[Path, Prediction]) -> None:
    data, prediction = kept
    dataset = open_dataset(data)
    assert findings.findings_url(Path("m"), dataset, None, SCENE) == ""
    assert findings.findings_url(Path("m"), dataset, prediction, replace(SCENE, layers={"prediction": "/p"})) == ""
    url = findings.findings_url(Path("m"), dataset, prediction, SCENE)
    assert url and url == findings.findings_url(Path("m"), dataset, prediction, SCENE)
    assert findings.findings_url(Path("m"), dataset, prediction, replace(SCENE, streamed=True)) == url, "large too"
    prediction.file.write_bytes(b"another label map")
    assert findings.findings_url(Path("m"), dataset, prediction, SCENE) != url


def test_classes_of_other_names_or_values_are_searched_again(kept: tuple[Path, Prediction]) -> None:
    data, prediction = kept
    dataset = open_dataset(data)
    background, bright, *others = dataset.labels.classes
    renamed = replace(dataset.labels, classes=(background, replace(bright, name="other"), *others))
    cases = (
        (dataset, SCENE),
        (replace(dataset, labels=renamed), SCENE),
        (dataset, replace(SCENE, classes=({"name": "other"},))),
    )
    assert len({findings.findings_url(Path("m"), of, prediction, scene) for of, scene in cases}) == 3


@pytest.mark.parametrize(
    ("done", "reason"),
    [
        (subprocess.CompletedProcess([], 1, "", "note: x\nerror: no memory\n"), "ball_0: .* failed: no memory"),
        (subprocess.CompletedProcess([], -9, "", ""), "signal 9; most likely the memory ran out"),
        (subprocess.CompletedProcess([], 3, "", ""), "exit status 3"),
        (None, "did not end within 15 minutes"),
    ],
)
def test_failed_search_gives_the_reason(
    done: subprocess.CompletedProcess[str] | None,
    reason: str,
    kept: tuple[Path, Prediction],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(findings, "run_limited", lambda *_: done)
    with pytest.raises(VolumeError, match=reason):
        findings._find(Path("m"), *kept, "stamp")


def test_errors_of_a_case_that_is_segmented_again_are_not_those_of_what_is_shown(
    kept: tuple[Path, Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, prediction = kept
    stamp = files_hash("", [prediction.file])
    done = subprocess.CompletedProcess([], 0, "{}", "")
    monkeypatch.setattr(findings, "run_limited", lambda *_: done)
    assert findings._find(Path("m"), data, prediction, stamp) == b"{}"

    def segment_again(*_: object) -> subprocess.CompletedProcess[str]:
        prediction.file.write_bytes(b"another label map")
        return done

    monkeypatch.setattr(findings, "run_limited", segment_again)
    with pytest.raises(VolumeError, match="segmented again since"):
        findings._find(Path("m"), data, prediction, stamp)


def test_searches_leave_volumes_their_turn(kept: tuple[Path, Prediction], monkeypatch: pytest.MonkeyPatch) -> None:
    data, prediction = kept
    started, ended = threading.Event(), threading.Event()

    def search(*_: object) -> subprocess.CompletedProcess[str]:
        started.set()
        ended.wait(20)
        return subprocess.CompletedProcess([], 0, json.dumps({"classes": []}), "")

    monkeypatch.setattr(findings, "run_limited", search)
    url = findings.findings_url(Path("m"), open_dataset(data), prediction, SCENE)
    token = url.removeprefix(volumes.PREFIX)
    scope = {"type": "http", "method": "GET", "path": url, "headers": [], "path_params": {"token": token}}
    answers: list[int] = []
    request = Request(scope | {"query_string": b""})
    thread = threading.Thread(target=lambda: answers.append(volumes.volume(request).status_code))
    thread.start()
    assert started.wait(20)
    with contextlib.ExitStack() as taken:  # all permits are free: this would wait for ever otherwise
        for _ in range(MAX_AT_ONCE):
            taken.enter_context(heavy_work())
    ended.set()
    thread.join(20)
    assert answers == [200]
