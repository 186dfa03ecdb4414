"""``features``: pictures, manifest, progress, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.cli import main

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


def test_features_writes_pictures_and_the_manifest(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = ball_run.data / "imagesTr" / "ball_2.nii.gz", tmp_path / "maps"
    assert main(["features", str(ball_run.checkpoint), str(image), "--out", str(out), "--progress"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == "progress 7/7"
    assert "of 6 stages, from a sub-volume of 16x16x16 voxels" in captured.out
    arguments = ["features", str(ball_run.checkpoint), str(image), "--out", str(out)]
    assert main([*arguments, "--sub-volume", "12x12x8", "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["sub_volume"]["size"] == [12, 12, 8] and manifest == json.loads((out / "manifest.json").read_text())


def test_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "nothing", "image.nii", "--out", str(tmp_path / "x")]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
