"""Rebuild of the index from the run folders; a damaged database is renamed and its readable quiz answers recovered."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from core.errors import RunError
from core.runs.store.database import SHM_SUFFIX, WAL_SUFFIX, database_url, open_answers
from core.runs.store.database_errors import DamagedIndexError
from core.runs.store.index import open_index
from core.runs.store.schema import ANSWERS


@dataclass(frozen=True)
class RebuildResult:
    """Result of a rebuild.

    Attributes
    ----------
    runs : int. Runs in the index.
    damaged : Path or None. New path of the damaged database; ``None`` if it was not damaged.
    answers : int. Quiz answers recovered from it.
    """

    runs: int
    damaged: Path | None = None
    answers: int = 0


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
    answers = _readable_answers(damaged)
    with open_answers(root) as connection:
        for answer in answers:
            connection.execute(ANSWERS.insert().values(**answer))
    return RebuildResult(runs, damaged, len(answers))


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


def _readable_answers(damaged: Path) -> list[dict[str, Any]]:
    """The valid answers before the first unreadable one, without repetitions."""
    names = [column.name for column in ANSWERS.c]
    answers: dict[tuple[str, int], dict[str, Any]] = {}
    query = str(sa.select(ANSWERS).compile(dialect=sqlite.dialect()))
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(damaged)) as connection:
        for row in connection.execute(query):
            answer = dict(zip(names, row, strict=True))
            if _is_valid(answer):
                answers[answer["game"], answer["number"]] = {**answer, "correct": bool(answer["correct"])}
    return list(answers.values())


def _is_valid(values: dict[str, Any]) -> bool:
    """Whether the values have the columns' types and are consistent. SQLite stores any type in any column, and does not
    detect a page that was overwritten."""
    accepted: dict[type, tuple[type, ...]] = {float: (float, int), bool: (int,)}
    typed = all(isinstance(values[c.name], accepted.get(c.type.python_type, (c.type.python_type,))) for c in ANSWERS.c)
    sides = [values["truth_side"], values["chosen_side"]]
    return typed and set(sides) <= {"left", "right"} and values["correct"] == (sides[0] == sides[1])
