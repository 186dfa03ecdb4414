"""``demo``: arguments, output, progress, errors."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from core.cli import demo, main
from core.datasets.synthetic.demo import make_demo, read_marker


def test_arguments_reach_the_generator_and_the_folder_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[dict[str, Any]] = []

    def record(*args: Any, **options: Any) -> Path:
        bound = inspect.signature(make_demo).bind(*args, **options)
        calls.append(bound.arguments)
        return tmp_path / "demo"

    monkeypatch.setattr(demo, "make_demo", record)
    assert main(["demo", str(tmp_path / "demo"), "--subjects", "4", "--seed", "3", "--workers", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"4 synthetic subjects in {tmp_path / 'demo'}"]
    (call,) = calls
    assert next(iter(call.values())) == tmp_path / "demo"
    assert (call["subjects"], call["seed"], call["workers"]) == (4, 3, 2)


@pytest.mark.long
def test_one_subject_with_progress_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(tmp_path / "demo"), "--only", "subject-2", "--seed", "3", "--progress"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"subject-2 in {tmp_path / 'demo'}"]
    assert captured.err.splitlines() == [f"progress {n}/4" for n in range(5)]
    assert len(list((tmp_path / "demo").glob("subject-*"))) == 3
    marker = read_marker(tmp_path / "demo")
    assert marker is None or marker.seed == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--subjects", "0"], "error: subjects must be a whole number from 1 to 1000, got 0"),
        (["--seed", "-1"], "error: seed must be a whole number from 0 to"),
        ([], "error: expected an empty or new folder"),
        (["--only", "subject-1"], "error: expected an empty or new folder"),
        (["--only", "7"], "error: expected a subject of the demo data, subject-1 to subject-1000, got '7'"),
    ],
)
def test_error_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["demo", str(tmp_path), *arguments]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == "" and line.startswith(message)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
