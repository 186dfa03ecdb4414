"""A damaged index is renamed and rebuilt; readable quiz answers are recovered."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from core import cli
from core.errors import RunError
from core.events import Metrics, Ready
from core.presets import preset
from core.runs.launch import create_run
from core.runs.reporting.recorder import Recorder
from core.runs.store import database, metrics_file
from core.runs.store import folder as files
from core.runs.store.database import FILE, open_answers
from core.runs.store.database_errors import DamagedIndexError
from core.runs.store.index import open_index
from core.runs.store.lost_answers import LostAnswers, read_lost
from core.runs.store.rebuild import RebuildResult, rebuild
from core.runs.store.schema import ANSWERS as ANSWERS_TABLE
from core.runs.store.state import read_state
from core.study.answers import Answer, read_answers, save_answer
from tests.core.study.test_answers import answer
from tests.support.index_rows import close_connections

ANSWERS = 300


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runs with measurements and quiz answers, in one database file."""
    for number in range(ANSWERS):  # before the runs: the first half of the file holds some of them
        save_answer(tmp_path, answer(number=number, answered_at=100.0 + number))
    for _ in range(2):
        folder = create_run(tmp_path, preset("quick"), foreground=True)
        metrics_file.append_metrics(folder, 1, 10, 0.5, {"a": 1.0, "b": 2.0})
    rebuild(tmp_path)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    return tmp_path


def noise(file: Path) -> None:
    file.write_bytes(os.urandom(20_000))


def half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def torn_inside(file: Path) -> None:
    """Overwrites the second half of the pages; header and schema stay intact."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle:] = os.urandom(len(content) - middle)
    file.write_bytes(content)


def rows(root: Path) -> list[tuple[str, float]]:
    opened = open_index(root)
    found = [opened.metrics_after(folder.name, 0, 100) for folder in files.run_folders(root)]
    return sorted((row.name, row.value) for metrics in found for row in metrics)


@pytest.mark.slow
def test_intact_database_is_not_renamed(root: Path) -> None:
    assert rebuild(root) == RebuildResult(2)
    assert not list(root.glob("*damaged*")) and len(read_answers(root)) == ANSWERS


@pytest.mark.slow
@pytest.mark.parametrize("damage", [noise, half, torn_inside])
def test_damaged_database_is_renamed_and_rebuilt(root: Path, damage: Callable[[Path], None]) -> None:
    before, answers = rows(root), read_answers(root)
    damage(root / FILE)
    damaged = (root / FILE).read_bytes()
    made = rebuild(root)
    assert (made.runs, len(read_answers(root))) == (2, made.answers)
    assert made.damaged is not None and made.damaged.read_bytes() == damaged, "nothing is deleted"
    assert rows(root) == before
    assert all(kept in answers for kept in read_answers(root))
    assert (made.answers > 0) == (damage is not noise)
    save_answer(root, answer(game="new", number=1))
    assert rebuild(root).damaged is None


def filled(root: Path, games: int, *, runs_first: bool = False) -> list[Answer]:
    """A database of answers of several games, twenty of each, and of a run with 1,500 measurements."""

    def train() -> None:
        folder = create_run(root, preset("quick"), foreground=True)
        metrics_file.append_metrics(folder, 1, 10, 0.5, {f"measure {number}": 1.0 for number in range(1500)})
        rebuild(root)

    if runs_first:
        train()
    answers = [
        answer(game=f"game-{game:02}", number=number, answered_at=game + number / 100)
        for game in range(games)
        for number in range(1, 21)
    ]
    with open_answers(root) as connection:  # at once: each that is saved for itself waits for the disk
        connection.execute(ANSWERS_TABLE.insert(), list(map(asdict, answers)))
    if not runs_first:
        train()
    return answers


def settled(root: Path) -> Path:
    """The database file with everything in it, and no connection to it."""
    close_connections()
    with sqlite3.connect(root / FILE) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    return root / FILE


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("runs_first", [False, True])
def test_answers_of_every_page_that_is_left_of_a_truncated_database_are_kept(
    tmp_path: Path, runs_first: bool, share: float
) -> None:
    answers = filled(tmp_path, 20, runs_first=runs_first)
    file = settled(tmp_path)
    os.truncate(file, int(share * file.stat().st_size))
    left = file.read_bytes()
    made = rebuild(tmp_path)
    kept = read_answers(tmp_path)
    complete = [given for given in answers if _is_whole(left, given)]
    assert kept == complete and made.answers == len(kept), "no answer that is in the file is lost"
    # What is lost at the end of the file leaves no trace; what is known to be lost is not more than is.
    assert made.lost.number <= len(answers) - len(kept)
    assert sum(made.lost.games.values()) <= made.lost.number
    if not runs_first and share >= 0.5:
        assert kept == answers and not made.lost.number


def _is_whole(content: bytes, given: Answer) -> bool:
    """Whether the row of an answer is in the part of a file that has whole pages."""
    return f"{given.game}".encode() in content and _row_of(given) in content[: len(content) // 4096 * 4096]


def _row_of(given: Answer) -> bytes:
    """The end of the row of an answer, which no other row has: when it was answered, and why."""
    return struct.pack(">d", given.answered_at) + given.why.encode()


def test_what_lies_behind_a_lost_page_is_kept_and_what_is_lost_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = filled(tmp_path, 20)
    file = settled(tmp_path)
    content = bytearray(file.read_bytes())
    lost = answers[150]
    page = content.index(_row_of(lost)) // 4096 * 4096
    content[page : page + 4096] = bytes(4096)
    file.write_bytes(content)
    assert cli.main(["runs", "rebuild", "--checkpoints", str(tmp_path)]) == 0
    kept, printed = read_answers(tmp_path), capsys.readouterr().out
    gone = [given for given in answers if given not in kept]
    assert lost in gone and len(gone) < 40 and answers[-1] in kept
    games = Counter(given.game for given in gone)
    assert read_lost(tmp_path) == LostAnswers(len(gone), dict(sorted(games.items())))
    assert f"kept: every run, from its folder; {len(kept)} quiz answers" in printed
    assert f"lost: at least {len(gone)} answers (" in printed and f"{games[lost.game]} of game {lost.game}" in printed
    assert cli.main(["quiz", "report", lost.game, "--checkpoints", str(tmp_path)]) == 0
    assert f"{games[lost.game]} answers of this game were lost" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["quiz", "report", "all", "--json", "--checkpoints", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["lost"] == len(gone)


def test_answers_that_are_in_the_log_of_changes_alone_are_kept(tmp_path: Path) -> None:
    """A crash before the changes were moved into the file, which is damaged then."""
    filled(tmp_path, 2)
    settled(tmp_path)
    save_answer(tmp_path, answer(game="last", number=1, why="long " * 3000))  # over several pages
    copy = tmp_path / "crashed"
    copy.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{tmp_path / FILE}{suffix}", f"{copy / FILE}{suffix}")
    before = read_answers(tmp_path)
    content = bytearray((copy / FILE).read_bytes())
    content[:100] = os.urandom(100)
    (copy / FILE).write_bytes(content)
    made = rebuild(copy)
    assert read_answers(copy) == before and made.lost == LostAnswers()


def test_lone_number_of_a_row_is_no_proof_of_lost_answers(tmp_path: Path) -> None:
    answers = filled(tmp_path, 2)
    with sqlite3.connect(settled(tmp_path)) as connection:
        connection.execute("update quiz_answers set rowid = 1000000 where rowid = 40")
    connection.close()
    file = settled(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:100] + b"\0" + content[101:])
    assert rebuild(tmp_path).lost == LostAnswers() and read_answers(tmp_path) == answers


@pytest.mark.long
@pytest.mark.slow
def test_invalid_answers_are_not_recovered(root: Path) -> None:
    """Values that SQLite reads without an error."""
    changes = ("slice = 'seven'", "dice = x'00ff'", "truth_side = 'up'", "correct = 2", "correct = 1 - correct")
    with sqlite3.connect(root / FILE) as connection:
        for number, change in enumerate(changes):
            connection.execute(f"update quiz_answers set {change} where number = {number}")
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    content = bytearray((root / FILE).read_bytes())
    content[-4096:] = os.urandom(4096)
    (root / FILE).write_bytes(content)
    made = rebuild(root)
    assert made.damaged is not None and 0 < made.answers <= ANSWERS - len(changes)
    assert min(kept.number for kept in read_answers(root)) == len(changes)


def test_index_rebuilt_while_a_run_trains_has_each_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = create_run(tmp_path, preset("quick"), foreground=True)
    recorder = Recorder(folder, read_state(folder))
    recorder(Ready({"device": "cpu"}, ("air", "CSF"), 0, 0))
    monkeypatch.setattr("core.runs.reporting.recorder.INDEX_EVERY_S", 0.0)
    recorder(Metrics(1, 9, 1.0, {"a": 0.5}))
    assert recorder.index.drain()
    close_connections()
    noise(tmp_path / FILE)
    recorder(Metrics(1, 10, 1.125, {"a": 1.0, "b": 2.0}))
    assert recorder.index.drain()
    assert "is damaged" in files.read_log_tail(folder, 5)
    assert rebuild(tmp_path).damaged is not None
    recorder(Metrics(1, 11, 1.25, {"a": 2.0}))
    recorder.end("finished")
    assert rows(tmp_path) == [("a", 0.5), ("a", 1.0), ("a", 2.0), ("b", 2.0)]


@pytest.mark.slow
def test_damage_error_names_the_rebuild_command(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(root / FILE)
    monkeypatch.setattr(database, "_engines", {})  # as in a new process
    with pytest.raises(DamagedIndexError, match=r"file is not a database.*runs rebuild"):
        open_index(root)
    with pytest.raises(DamagedIndexError, match=r"quiz answers.*runs rebuild"):
        read_answers(root)


@pytest.mark.long
@pytest.mark.slow
def test_locked_database_is_not_renamed(root: Path) -> None:
    writer = sqlite3.connect(root / FILE, isolation_level=None)
    writer.execute("begin exclusive")
    with pytest.raises(RunError, match="database is locked"):
        rebuild(root)
    writer.close()
    assert not list(root.glob("*damaged*"))
