"""Surfaces that a child process makes when a browser asks for them: progress, stop, failures, replaced files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from core.datasets import open_dataset
from core.errors import VolumeError
from core.evaluation.surface_file import encode
from core.evaluation.surface_meshes import CaseSurfaces
from core.runs.predictions import Prediction
from tests.support.background_jobs import poll
from tests.support.balls import write_balls
from ui.review import surfaces_job
from ui.review.surfaces_job import CaseOfSurfaces, surface_urls
from ui.shared import jobs
from ui.viewer.volumes import Pending

EMPTY = encode(CaseSurfaces((), (), True, True), "key", b"picture")
# Stands for ``review surfaces``: waits while there is a file "wait", fails while there is a file "fail".
PROGRAM = """
import json, sys, time
from pathlib import Path
folder = Path({folder!r})
print("progress 1/4", file=sys.stderr, flush=True)
while (folder / "wait").exists(): time.sleep(0.01)
if (folder / "fail").exists():
    print("error: no memory", file=sys.stderr)
    sys.exit(1)
print(json.dumps({{"file": str(folder / "surfaces.bin"), "key": "key"}}))
"""


class Case:
    """A case, and a folder that decides what the command does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "kept.nii.gz").write_bytes(b"label map")
        (folder / "surfaces.bin").write_bytes(EMPTY)
        self.prediction = Prediction("ball_0", folder / "kept.nii.gz", None, 1, 1, "", 0.0)
        dataset = open_dataset(write_balls(folder / "balls", subjects=2))
        stamp = surfaces_job.stamp_of(dataset, self.prediction)
        self.job = CaseOfSurfaces(Path("model"), dataset, self.prediction, stamp, "labels")

    def made(self) -> bytes | float:
        """The surfaces, or the share that is done."""
        try:
            return self.job.scene()
        except Pending as pending:
            return pending.progress


@pytest.fixture
def case(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    program = PROGRAM.format(folder=str(tmp_path))
    monkeypatch.setattr(jobs, "module_command", lambda *arguments: [sys.executable, "-S", "-c", program, *arguments])
    return Case(tmp_path)


def test_urls_change_with_the_files_and_classes_and_are_not_offered_in_vain(case: Case) -> None:
    dataset, prediction = case.job.dataset, case.prediction

    class Metadata:
        regions = None
        label_space = dataset.labels

    metadata: Any = Metadata()
    assert surface_urls(Path("m"), dataset, metadata, None) is None
    first = surface_urls(Path("m"), dataset, metadata, prediction)
    assert first is not None and first.url != first.picture
    assert first == surface_urls(Path("m"), dataset, metadata, prediction)
    prediction.file.write_bytes(b"another label map")
    assert surface_urls(Path("m"), dataset, metadata, prediction) != first


def test_surfaces_are_pending_then_there_with_their_picture(case: Case) -> None:
    (case.folder / "wait").touch()
    assert case.made() == 0
    assert poll(case.made, lambda share: share == 0.25)
    (case.folder / "wait").unlink()
    scene = poll(case.made, lambda found: isinstance(found, bytes))
    assert isinstance(scene, bytes) and scene + b"picture" == EMPTY and case.job.picture() == b"picture"
    jobs._running.clear()  # a restarted server
    assert case.made() == scene


def test_stopping_ends_the_process_and_the_next_request_begins_anew(case: Case) -> None:
    (case.folder / "wait").touch()
    assert case.made() == 0
    assert jobs.is_running(case.job._folder)
    case.job.stop()
    assert not jobs.is_running(case.job._folder)
    (case.folder / "wait").unlink()
    assert isinstance(poll(case.made, lambda found: isinstance(found, bytes)), bytes)


def test_request_that_came_before_the_stop_does_not_begin_anew(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    (case.folder / "wait").touch()
    assert case.made() == 0
    plain = surfaces_job.stamp_of

    def stopped_meanwhile(*of: Any) -> str:
        """The request is under way: it has not looked for the process yet."""
        case.job.stop()
        return plain(*of)

    with monkeypatch.context() as patch:
        patch.setattr(surfaces_job, "stamp_of", stopped_meanwhile)
        assert case.made() == 0
    assert not jobs.is_running(case.job._folder)
    assert case.made() == 0 and jobs.is_running(case.job._folder), "one that comes later does"
    case.job.stop()


def test_a_failure_gives_its_reason_once_and_is_tried_again(case: Case) -> None:
    (case.folder / "fail").touch()
    with pytest.raises(VolumeError, match=r"ball_0: the surfaces cannot be made: no memory"):
        poll(case.made, lambda found: isinstance(found, bytes))
    (case.folder / "fail").unlink()
    assert isinstance(poll(case.made, lambda found: isinstance(found, bytes)), bytes)


def test_surfaces_of_another_segmentation_are_never_served(case: Case) -> None:
    assert isinstance(poll(case.made, lambda found: isinstance(found, bytes)), bytes)
    other = encode(CaseSurfaces((), (), True, True), "other key", b"")
    (case.folder / "surfaces.bin").write_bytes(other)  # by another process, of another content
    assert case.made() == 0, "made again"
    report = json.loads((case.job._folder / "stdout.txt").read_text() or "{}")
    assert report in ({}, {"file": str(case.folder / "surfaces.bin"), "key": "key"})
    case.job.stop()
    case.prediction.file.write_bytes(b"segmented again")
    with pytest.raises(VolumeError, match="changed since; load the page again"):
        case.made()
