"""``places``: report file, JSON, table, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.cli import main

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


def test_report_has_a_draw_for_each_size_and_share(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["places", str(ball_run.data), "--sub-volume", "8x8x8", "12x12x10", "--foreground", "0", "0.9"]
    out = tmp_path / "places.json"
    assert main([*common, "--count", "30", "--out", str(out), "--progress"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.splitlines() == [f"progress {n}/4" for n in range(1, 5)]
    report = json.loads(out.read_text())
    assert report["subject"] == "ball_0" and report["classes"] == ["background", "bright", "dark"]
    rules = [(d["sub_volume"], d["foreground"]) for d in report["draws"]]
    assert rules == [([8, 8, 8], 0.0), ([8, 8, 8], 0.9), ([12, 12, 10], 0.0), ([12, 12, 10], 0.9)]
    assert all(len(d["starts"]) == len(d["centres"]) == len(d["shares"]) == 30 for d in report["draws"])
    assert main([*common, "--subject", "ball_3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["subject"] == "ball_3"
    assert main(common) == 0
    assert "whole volume" in (table := capsys.readouterr().out) and "12x12x10" in table


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--count", "0"], "count: expected 1 to 100000"),
        (["--seed", "-1"], "seed: expected 0 or more"),
        (["--foreground", "2"], "foreground: expected a number from 0 to 1"),
        (["--subject", "ball_99"], "expected one of the subjects"),
    ],
)
def test_error_names_the_argument(
    ball_run: BallRun, capsys: pytest.CaptureFixture[str], more: list[str], expected: str
) -> None:
    assert main(["places", str(ball_run.data), "--sub-volume", "8x8x8", *more]) == 1
    assert expected in capsys.readouterr().err


def test_invalid_size_is_wrong_usage(ball_run: BallRun, capsys: pytest.CaptureFixture[str]) -> None:
    for size in ("4x4x4", "8x8", "x"):
        with pytest.raises(SystemExit, match="2"):
            main(["places", str(ball_run.data), "--sub-volume", size])
        assert "expected a size like 64x64x64" in capsys.readouterr().err
