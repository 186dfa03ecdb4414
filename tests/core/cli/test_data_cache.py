"""``data cache``: what the cache of decoded images holds, and emptying it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.cli import main
from core.datasets import open_dataset
from core.datasets.parallel_preparation import SubjectPreparation
from core.datasets.prepared_cache import Preparation, PreparedCache
from core.imaging.normalise import Normaliser
from core.imaging.volume import read_header
from tests.support.balls import write_balls
from tests.support.foreign_volumes import oblique_affine, phantom, write_mgh


@pytest.mark.slow
def test_the_cache_is_shown_and_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(tmp_path / "runs"))
    header = read_header(write_mgh(tmp_path / "a.mgz", phantom(), oblique_affine()))
    assert main(["data", "cache", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["entries"] == 1 and shown["bytes"] > header.nbytes and not shown["cleared"]
    assert main(["data", "cache", "--clear"]) == 0
    assert capsys.readouterr().out.startswith("removed: 1 decoded images")
    assert not header.data_path.exists()


def test_prepared_subjects_are_shown_and_removed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = open_dataset(write_balls(tmp_path / "data", 2))
    preparation = Preparation(("M0",), (), Normaliser(("z_score",)), None)
    assert (
        len(dict(SubjectPreparation(dataset, preparation, PreparedCache()).subjects({"ball_0": 1, "ball_1": 1}))) == 2
    )
    assert main(["data", "cache", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["entries"] == 0 and shown["prepared"]["entries"] == 2 and shown["prepared"]["bytes"] > 50_000
    assert shown["limit_bytes"] == 50_000_000_000 and shown["prepared"]["folder"] == str(PreparedCache().folder)
    assert main(["data", "cache", "--clear"]) == 0
    assert "removed: 2 prepared subjects" in capsys.readouterr().out and PreparedCache().use().entries == 0
