"""Surfaces that are kept beside a prediction: made once per content, bounded, written whole."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.cli import main
from core.datasets import load_subject, open_dataset
from core.imaging.volume import read_label
from core.runs import kept_surfaces
from core.runs.kept_surfaces import read_surfaces
from tests.support.balls import SHAPE, SPACING_MM, untrained_run, write_balls
from tests.support.meshes import read_ply, read_stl

pytestmark = pytest.mark.slow

CASE = "ball_1"  # stored as LAS


class Kept:
    """A kept prediction of a subject that is stored mirrored."""

    def __init__(self, folder: Path) -> None:
        self.root, self.data = folder / "runs", write_balls(folder / "balls", subjects=2)
        self.run = untrained_run(self.root, "surfaces", ("M0",), dataset={"name": "Balls", "path": str(self.data)})
        arguments = [self.run, str(self.data), "--subject", CASE, "--keep", f"--checkpoints={self.root}"]
        assert main(["evaluate", *arguments]) == 0

    def make(self, *options: str) -> int:
        return main(["review", "surfaces", self.run, str(self.data), CASE, f"--checkpoints={self.root}", *options])


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_surfaces_are_made_once_and_again_when_the_prediction_or_the_reference_changes(
    kept: Kept, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    capsys.readouterr()
    assert kept.make("--json", "--progress") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    file = Path(report["file"])
    assert "progress 2/2" in err and file.is_file() and not list(file.parent.glob(".*.tmp"))
    dataset = open_dataset(kept.data)
    truth = load_subject(dataset, CASE).label
    assert truth is not None
    voxel_ml = float(np.prod(SPACING_MM)) / 1000
    references = {s["name"]: s for s in report["surfaces"] if s["side"] == "reference"}
    for index, name in ((1, "bright"), (2, "dark")):
        assert references[name]["volume_ml"] == pytest.approx((truth == index).sum() * voxel_ml)
        assert references[name]["mesh_ml"] == pytest.approx(references[name]["volume_ml"], rel=0.1)
    before = file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(kept_surfaces, "case_surfaces", lambda *_: pytest.fail("made again"))
        assert kept.make("--json") == 0
    assert json.loads(capsys.readouterr().out)["key"] == report["key"]
    os.truncate(file, len(before) - 3)  # damaged: made again, the same
    assert kept.make() == 0 and file.read_bytes() == before
    label = next(kept.data.glob(f"labelsTr/{CASE}*"))
    label.write_bytes(next(kept.data.glob("labelsTr/ball_0*")).read_bytes())
    assert kept.make("--json") == 0
    changed = read_surfaces(file)
    assert changed is not None and changed.content.key != report["key"]


def test_files_lie_in_ras_mm_where_the_image_does_also_in_an_archive(
    kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, picture = tmp_path / "out", tmp_path / "p.png"
    assert kept.make("--stl", str(folder), "--ply", str(folder), "--picture", str(picture), "--json") == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sorted(path.name for path in folder.glob("*reference*")) == [
        f"{CASE}-{name}-reference{ending}" for name in ("bright", "dark") for ending in (".ply", ".stl")
    ]
    assert str(picture) in report["written"] and picture.read_bytes().startswith(b"\x89PNG")
    truth = read_label(next(kept.data.glob(f"labelsTr/{CASE}*")))
    assert truth.geometry.shape == SHAPE
    for index, name in ((1, "bright"), (2, "dark")):
        voxels = np.argwhere(truth.data[0] == index)  # canonical
        centre = (voxels @ truth.geometry.affine[:3, :3].T + truth.geometry.affine[:3, 3]).mean(axis=0)
        header, _, corners = read_stl((folder / f"{CASE}-{name}-reference.stl").read_bytes())
        comments, vertices, _ = read_ply((folder / f"{CASE}-{name}-reference.ply").read_bytes())
        assert "SPACE=RAS" in header and "SPACE=RAS" in comments
        points = np.stack([vertices[axis] for axis in "xyz"], axis=1)
        for found in (corners.reshape(-1, 3), points):
            middle = (found.min(axis=0) + found.max(axis=0)) / 2
            assert np.abs(middle - centre).max() < 1, name
    archives = {ending: tmp_path / f"all{ending}.zip" for ending in (".stl", ".ply")}
    assert kept.make("--stl", str(archives[".stl"]), "--ply", str(archives[".ply"])) == 0
    for ending, archive in archives.items():
        with zipfile.ZipFile(archive) as opened:
            content = {info.filename: opened.read(info) for info in opened.infolist()}
            assert all(info.external_attr >> 16 & 0o444 == 0o444 for info in opened.infolist())
        assert content == {path.name: path.read_bytes() for path in folder.glob(f"*{ending}")} and len(content) >= 2


def test_the_oldest_surfaces_go_where_there_are_too_many(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept.make() == 0
    (file,) = kept.root.rglob("surfaces/*.bin")
    old, recent = file.with_name("old.bin"), file.with_name("recent.bin")
    for path, age in ((old, 100), (recent, 50)):
        path.write_bytes(file.read_bytes())
        os.utime(path, (file.stat().st_mtime - age,) * 2)
    file.unlink()
    monkeypatch.setattr(kept_surfaces, "MAX_BYTES", int(2.5 * recent.stat().st_size))
    assert kept.make() == 0
    assert not old.exists() and recent.exists() and file.exists()


def test_what_cannot_be_written_or_made_is_named(
    kept: Kept, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert kept.make("--picture", str(tmp_path / "p.jpg")) == 1
    assert ".png" in capsys.readouterr().err
    both = str(tmp_path / "both.zip")
    assert kept.make("--stl", both, "--ply", both) == 1 and "another ZIP file" in capsys.readouterr().err
    assert kept.make("--stl", str(tmp_path / "gone" / "a.zip")) == 1 and "folder that exists" in capsys.readouterr().err
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert kept.make("--stl", str(blocked)) == 1
    assert "choose another folder" in capsys.readouterr().err
    assert main(["review", "surfaces", kept.run, str(kept.data), "ball_0", f"--checkpoints={kept.root}"]) == 1
    assert "--subject ball_0 --keep" in capsys.readouterr().err


def test_a_case_that_does_not_fit_into_the_memory_is_refused(
    kept: Kept, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = int(np.prod(SHAPE)) * (kept_surfaces.VOXEL_BYTES + kept_surfaces.CHANNEL_BYTES)
    monkeypatch.setattr(kept_surfaces, "free_memory", lambda: needed - 1)
    assert kept.make() == 1
    assert "ball_1: not enough memory: its surfaces, of 20x24x18 voxels, take" in capsys.readouterr().err
    monkeypatch.setattr(kept_surfaces, "free_memory", lambda: needed)
    assert kept.make() == 0
