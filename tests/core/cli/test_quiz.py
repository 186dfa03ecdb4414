"""``quiz report`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.cli import main
from core.study.answers import save_answer
from tests.core.study.test_answers import answer


@pytest.fixture
def played(checkpoints: Path) -> Path:
    """Two games: 3 right of 4, and 1 of 1."""
    for number, correct in enumerate((True, True, False, True), start=1):
        save_answer(checkpoints, answer(game="a1", number=number, correct=correct, confidence=number))
    save_answer(checkpoints, answer(game="b2", difficulty="hard"))
    return checkpoints


def test_text_report_of_a_game(played: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quiz", "report", "a1"]) == 0
    text, err = capsys.readouterr()
    rows = {line.split("  ")[0].strip(): line.split() for line in text.splitlines()}
    assert rows["all"][1:5] == ["3", "4", "75", "%"] and rows["all"][5:] == ["19", "to", "99", "%"]
    assert rows["medium"][1:3] == ["3", "4"] and rows["sure 4, certain"][3:5] == ["1", "1"]
    assert "hard" not in rows and err == ""


def test_json_report_of_all_games(played: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quiz", "report", "all", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["study"], report["games"], report["n"]) == ("all", 2, 5)
    assert (report["correct"], report["accuracy"]) == (4, 0.8)
    assert report["interval"]["low"] == pytest.approx(0.2836, abs=1e-4)  # Clopper-Pearson for 4 of 5
    assert report["interval"]["high"] == pytest.approx(0.9949, abs=1e-4)
    assert report["by_difficulty"]["hard"]["n"] == 1 and report["by_confidence"]["3"]["correct"] == 1


def test_report_without_answers_is_empty_and_an_unknown_game_is_an_error(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quiz", "report", "all"]) == 0
    assert "no answers yet" in capsys.readouterr().out
    assert main(["quiz", "--json", "report", "all"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] is None
    assert main(["quiz", "report", "nope"]) == 1
    text, err = capsys.readouterr()
    assert text == "" and err.startswith("error: expected the id of a game") and err.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["quiz", "play"])


def test_missing_root_of_runs_is_not_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quiz", "report", "all", "--checkpoints", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none").exists()
