"""``data cache``: what the cache of decoded images holds, and emptying it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.cli import main
from core.imaging.volume import read_header
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
