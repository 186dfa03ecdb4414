"""Answers of the quiz: durable, stored once, independent of the index of runs, summarised."""

from __future__ import annotations

import dataclasses
import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.errors import RunError
from core.paths import project_root
from core.presets import preset
from core.runs.catalog import update_index
from core.runs.launch import create_run
from core.runs.store import metrics_file
from core.runs.store.database import FILE, open_answers
from core.runs.store.index import open_index
from core.runs.store.schema import ANSWERS
from core.study.answers import Answer, current_streak, read_answers, save_answer, summarise
from core.study.statistics import Score
from tests.support.index_rows import run_rows

ROOT = project_root()
VERSION_1 = (
    "create table schema_version (version integer not null)",
    "insert into schema_version values (1)",
    "create table runs (id varchar(128) primary key, root text not null, name text not null)",
    "create table metrics (id integer primary key autoincrement, run varchar(128) not null, name text not null)",
    "insert into runs values ('net-1', '/old/place', 'net')",
    "insert into metrics (run, name) values ('net-1', 'lr')",
)
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.core.study.test_answers import answer
from core.study.answers import save_answer
for number in (1, 2, 3):
    save_answer(Path(sys.argv[1]), answer(number=number))
os.kill(os.getpid(), signal.SIGKILL)
"""


def answer(**values: Any) -> Answer:
    """A correct answer with some fields replaced."""
    given: dict[str, Any] = dict(
        game="a1b2", number=1, questions=20, model="demo-model", epoch=12, step=600, data="demo", subject="subject-1",
        plane="axial", slice=60, first_slice=56, slices=9, difficulty="medium", dice=0.91, differing=212,
        foreground=4000, truth_side="left", chosen_side="left", correct=True, confidence=3, seconds=2.5,
        answered_at=1_760_000_000.0, why="The prediction takes 212 voxels of GM for WM here: all that differ.",
    )  # fmt: skip
    return Answer(**{**given, **values})


def test_saved_answers_are_read_unchanged(tmp_path: Path) -> None:
    root = tmp_path / "missing"
    assert read_answers(root) == [] and not root.exists()
    given = [answer(number=n, answered_at=100.0 + n, dice=0.1 + n / 3) for n in (1, 2, 3)]
    for each in given:
        save_answer(root, each)
    assert read_answers(root) == read_answers(root, "a1b2") == given


@pytest.mark.slow
def test_saved_answer_survives_a_kill(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [a.number for a in read_answers(tmp_path, "a1b2")] == [1, 2, 3]


def test_every_answer_is_synced_to_the_disk(tmp_path: Path) -> None:
    for opened, expected in ((open_answers(tmp_path), 2), (open_index(tmp_path)._database.begin(), 1)):
        with opened as connection:
            assert connection.exec_driver_sql("pragma synchronous").scalar() == expected  # 2 is FULL, 1 NORMAL
            assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"


def test_question_is_answered_once(tmp_path: Path) -> None:
    first = answer()
    save_answer(tmp_path, first)
    with pytest.raises(RunError, match=r"question 1 .* answered already"):
        save_answer(tmp_path, answer(chosen_side="right", correct=False))
    save_answer(tmp_path, answer(game="other"))
    assert read_answers(tmp_path, "a1b2") == [first]


def test_rebuilding_the_index_keeps_the_answers(tmp_path: Path) -> None:
    folder = create_run(tmp_path, preset("quick"), foreground=True)
    given = answer(model=folder.name)
    save_answer(tmp_path, given)
    assert open_index(tmp_path).rebuild() == 1
    open_index(tmp_path).delete_run(folder.name)
    assert read_answers(tmp_path) == [given]


def test_database_of_version_1_is_migrated_with_its_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = create_run(tmp_path, preset("quick"), foreground=True)
    metrics_file.append_metrics(folder, 1, 10, 0.5, {"lr": 0.5})
    (tmp_path / FILE).unlink()
    with sqlite3.connect(tmp_path / FILE) as old:
        for statement in VERSION_1:
            old.execute(statement)
    old.close()
    save_answer(tmp_path, answer())
    assert "tables brought from version 1 to" in capsys.readouterr().err
    update_index(tmp_path, folder)
    assert [(row.name, row.value) for row in open_index(tmp_path).metrics_after(folder.name, 0, 9)] == [("lr", 0.5)]
    assert [row["id"] for row in run_rows(tmp_path)] == [folder.name]
    assert read_answers(tmp_path) == [answer()]


@pytest.mark.slow
def test_unwritable_database_is_reported(tmp_path: Path) -> None:
    save_answer(tmp_path, answer())
    writer = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    writer.execute("begin exclusive")
    with pytest.raises(RunError, match=r"index\.sqlite: .*database is locked"):
        save_answer(tmp_path, answer(number=2))
    writer.close()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunError, match="expected a folder"):
        save_answer(tmp_path / "file", answer())


def test_game_is_found_by_a_prefix_of_its_id(tmp_path: Path) -> None:
    for game in ("abc1", "abc2", "ab", "x_1", "xy1"):
        save_answer(tmp_path, answer(game=game))
    assert [a.game for a in read_answers(tmp_path, "abc2")] == ["abc2"]
    assert [a.game for a in read_answers(tmp_path, "ab")] == ["ab"]  # an id in full, though others begin with it
    assert [a.game for a in read_answers(tmp_path, "x_")] == ["x_1"]  # no wildcard
    with pytest.raises(RunError, match="'abc' fits 2 games: abc1, abc2"):
        read_answers(tmp_path, "abc")
    for unknown in ("nope", "%", ""):
        with pytest.raises(RunError, match=r"expected the id of a game, its beginning, or 'all'|fits 5 games"):
            read_answers(tmp_path, unknown)
    assert len(read_answers(tmp_path, "all")) == 5


def test_report_counts_by_difficulty_and_confidence() -> None:
    given = [
        answer(number=n, game=game, difficulty=difficulty, correct=correct, confidence=confidence, seconds=seconds)
        for n, (game, difficulty, correct, confidence, seconds) in enumerate(
            (("a", "easy", True, 4, 1.0), ("a", "easy", True, 4, 2.0), ("a", "hard", False, 1, 9.0),
             ("b", "hard", True, 4, 3.0), ("b", "hard", False, 4, 4.0)), start=1,
        )
    ]  # fmt: skip
    found = summarise("all", given)
    assert (found.games, found.score, found.median_seconds) == (2, Score(3, 5), 3.0)
    assert found.by_difficulty == {"easy": Score(2, 2), "hard": Score(1, 3)}
    assert found.by_confidence == {1: Score(0, 1), 4: Score(3, 4)}
    assert [current_streak(given[:n]) for n in range(6)] == [0, 1, 2, 0, 1, 0]
    as_json = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert as_json["correct"] == 3 and as_json["by_confidence"]["4"]["accuracy"] == 0.75
    assert as_json["interval"]["method"] == "Clopper-Pearson"
    assert summarise("all", []).score == Score(0, 0) and summarise("all", []).median_seconds is None


def test_database_columns_equal_answer_fields() -> None:
    assert [c.name for c in ANSWERS.columns] == [f.name for f in dataclasses.fields(Answer)]
