"""``python -m core demo``: what it prints where, and one line for what it cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.cli import main
from core.datasets.synthetic.demo import read_marker


@pytest.mark.slow
def test_writes_the_subjects_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(tmp_path / "demo"), "--subjects", "1", "--seed", "3"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"1 synthetic subjects in {tmp_path / 'demo'}"]
    marker = read_marker(tmp_path / "demo")
    assert marker is not None
    assert (marker.seed, marker.subjects) == (3, ("subject-1",))


@pytest.mark.slow
def test_one_subject_alone_with_lines_of_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(tmp_path / "demo"), "--only", "subject-2", "--progress"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"subject-2 in {tmp_path / 'demo'}"]
    assert said.err.splitlines() == [f"progress {n}/4" for n in range(5)]
    assert len(list((tmp_path / "demo").glob("subject-*"))) == 6


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
def test_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["demo", str(tmp_path), *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith(message)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
