"""A damaged index is renamed and rebuilt; readable quiz answers are recovered."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import RunError
from core.events import Metrics, Ready
from core.presets import preset
from core.runs.launch import create_run
from core.runs.reporting.recorder import Recorder
from core.runs.store import database, metrics_file
from core.runs.store import folder as files
from core.runs.store.database import FILE
from core.runs.store.database_errors import DamagedIndexError
from core.runs.store.index import open_index
from core.runs.store.rebuild import RebuildResult, rebuild
from core.runs.store.state import read_state
from core.study.answers import read_answers, save_answer
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
