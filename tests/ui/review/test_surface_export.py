"""Surfaces of a case to download: made when they are asked for, again when the segmentation is another one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from core.datasets import open_dataset
from core.errors import VolumeError
from core.labels import LabelSpace
from core.runs.predictions import Prediction
from tests.support.background_jobs import wait_for_job
from tests.support.balls import write_balls
from ui.review.surface_export import SurfaceExport
from ui.shared import jobs

# Stands for ``review surfaces``: writes its arguments into the archive, fails while there is a file "full".
PROGRAM = (
    "import sys; from pathlib import Path;"
    "file = next(a.partition('=')[2] for a in sys.argv if a.endswith('.zip'));"
    "(print('error: no space left', file=sys.stderr), sys.exit(1)) if Path({full!r}).exists() else None;"
    "Path(file).write_text(' '.join(sys.argv[1:]))"
)


@pytest.fixture
def export(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> SurfaceExport:
    program = PROGRAM.format(full=str(tmp_path / "full"))
    monkeypatch.setattr(jobs, "module_command", lambda *arguments: [sys.executable, "-S", "-c", program, *arguments])
    (tmp_path / "kept.nii.gz").write_bytes(b"label map")
    prediction = Prediction("ball_0", tmp_path / "kept.nii.gz", None, 1, 1, "", 0.0)
    dataset = open_dataset(write_balls(tmp_path / "balls", subjects=1))
    return SurfaceExport(Path("net.safetensors"), dataset, prediction, ".stl")


def test_an_archive_is_made_once_and_again_for_another_segmentation(export: SurfaceExport) -> None:
    assert export.observe().state == "none"
    export.start()
    assert wait_for_job(export.observe).state == "done"
    words = export.content().decode().split()
    assert words[:4] == ["core", "review", "surfaces", f"--stl={export._folder / 'surfaces.stl.zip'}"]
    assert words[-4:] == ["--", "net.safetensors", str(export.dataset.path), "ball_0"]
    export.prediction.file.write_bytes(b"another label map")
    assert export.observe().state == "none"
    with pytest.raises(VolumeError, match="make them again"):
        export.content()


def test_an_archive_of_other_classes_or_of_labels_that_are_read_otherwise_is_made_again(export: SurfaceExport) -> None:
    """The same files: the reference is another one, and its names and colours in the archive are."""
    export.start()
    assert wait_for_job(export.observe).state == "done"
    dataset, labels = export.dataset, export.dataset.labels
    renamed = LabelSpace(tuple(replace(c, name=f"{c.name} 2") if c.raw else c for c in labels.classes), labels.ignore)
    for other in (replace(dataset, labels=renamed), replace(dataset, labels_follow_images=True)):
        assert replace(export, dataset=other).observe().state == "none"


def test_a_failure_gives_its_reason_until_it_is_made(export: SurfaceExport, tmp_path: Path) -> None:
    (tmp_path / "full").touch()
    export.start()
    job = wait_for_job(export.observe)
    assert (job.state, job.message) == ("failed", "no space left")
    (tmp_path / "full").unlink()
    export.start()
    assert wait_for_job(export.observe).state == "done"
