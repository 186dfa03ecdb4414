"""Rebuild of the index from the run folders; a damaged database is renamed and its readable quiz answers recovered."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.runs.store.database import SHM_SUFFIX, WAL_SUFFIX, database_url, open_answers
from core.runs.store.database_errors import DamagedIndexError
from core.runs.store.index import open_index
from core.runs.store.lost_answers import LostAnswers, note_lost
from core.runs.store.rows import upsert
from core.runs.store.schema import ANSWERS
from core.runs.store.sqlite_pages import Record, read_records

_KEY = 3  # values of an entry of the index of the primary key: game, number, row


@dataclass(frozen=True)
class RebuildResult:
    """Result of a rebuild.

    Attributes
    ----------
    runs : int. Runs in the index.
    damaged : Path or None. New path of the damaged database; ``None`` if it was not damaged.
    answers : int. Quiz answers recovered from it.
    lost : LostAnswers. Those of which there is a trace in it, and which cannot be read.
    """

    runs: int
    damaged: Path | None = None
    answers: int = 0
    lost: LostAnswers = field(default_factory=LostAnswers)


def rebuild(root: Path) -> RebuildResult:
    """Make the index of a checkpoints root again.

    Raises
    ------
    RunError
        If the database cannot be used for another reason than damage, or cannot be renamed.
    """
    try:
        index = open_index(root)
        index.check()
        return RebuildResult(index.rebuild())
    except DamagedIndexError:
        damaged = _set_aside(Path(database_url(root).database or ""))
    runs = open_index(root).rebuild()
    found = _readable_answers(damaged)
    with open_answers(root) as connection:
        for answer in found.answers.values():
            upsert(connection, ANSWERS, answer)
    note_lost(damaged, found.lost)
    return RebuildResult(runs, damaged, len(found.answers), found.lost)


def _set_aside(file: Path) -> Path:
    """Rename an SQLite database and its WAL files, without deleting them."""
    aside = file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    try:
        for suffix in (WAL_SUFFIX, SHM_SUFFIX, ""):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{file}{suffix}", f"{aside}{suffix}")
    except OSError as error:
        raise RunError(f"{file}: it is damaged and cannot be renamed: {error.strerror or error}") from error
    return aside


@dataclass(frozen=True)
class _Found:
    """What a damaged database still holds of the answers.

    Attributes
    ----------
    answers : dict. The valid ones, by game and number.
    lost : LostAnswers. Those that are known to be missing.
    """

    answers: dict[tuple[str, int], dict[str, Any]]
    lost: LostAnswers


def _readable_answers(damaged: Path) -> _Found:
    """The valid answers on all pages that are left, without repetitions.

    Rows are numbered from 1 and never deleted, and the index of their primary key names game and row: so it is known
    how many there were at least, and of which games some are lost.
    """
    answers: dict[tuple[str, int], dict[str, Any]] = {}
    rows: set[int] = set()  # numbers of the rows that were read
    named: dict[int, str] = {}  # row to its game, by the index
    traces: set[int] = set()  # numbers of rows that were there, whether they were read or not
    wal = damaged.with_name(f"{damaged.name}{WAL_SUFFIX}")
    for record in read_records(damaged, wal, len(ANSWERS.c), _KEY):
        if record.in_table:
            answer = _answer(record)
            if _is_valid(answer):
                answers[answer["game"], answer["number"]] = {**answer, "correct": bool(answer["correct"])}
                rows.add(record.row)
        elif _is_key(record):
            named[record.row] = str(record.values[0])
        if _is_key(record):
            traces.add(record.row)
    # A row counts where the one before it has left a trace too: one number alone may be damage.
    last = max((row for row in traces if row - 1 in traces or row == 1), default=0)
    games = Counter(game for row, game in named.items() if row not in rows and row <= last)
    return _Found(answers, LostAnswers(max(0, last - len(rows)), dict(sorted(games.items()))))


def _answer(record: Record) -> dict[str, Any]:
    """The columns of a row; SQLite stores whole numbers of ``REAL`` columns as integers."""
    values = zip(ANSWERS.c, record.values, strict=True)
    return {
        column.name: float(value) if column.type.python_type is float and isinstance(value, int) else value
        for column, value in values
    }


def _is_key(record: Record) -> bool:
    """Whether a record begins with the key of an answer, whatever is wrong with the rest."""
    game, number = record.values[:2]
    return isinstance(game, str) and isinstance(number, int) and record.row > 0


def _is_valid(values: Mapping[str, Any]) -> bool:
    """Whether the values have the columns' types and are consistent. SQLite stores any type in any column, and does not
    detect a page that was overwritten."""
    accepted: dict[type, tuple[type, ...]] = {float: (float, int), bool: (int,)}
    typed = all(isinstance(values[c.name], accepted.get(c.type.python_type, (c.type.python_type,))) for c in ANSWERS.c)
    sides = [values["truth_side"], values["chosen_side"]]
    return typed and set(sides) <= {"left", "right"} and values["correct"] == (sides[0] == sides[1])
