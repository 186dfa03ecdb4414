"""Makes the index of runs again from their folders; a database that is damaged is set aside first, and the answers of
the quiz that can still be read are taken over from it."""

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
from core.runs.store.index import DamagedIndexError, database_url, open_answers, open_index
from core.runs.store.schema import ANSWERS


@dataclass(frozen=True)
class Rebuilt:
    """What came of it.

    Attributes
    ----------
    runs : in the index now.
    damaged : where the damaged database lies now; ``None`` where there was none.
    answers : of the quiz that were taken over from it.
    """

    runs: int
    damaged: Path | None = None
    answers: int = 0


def rebuild(root: Path) -> Rebuilt:
    """Make the rows of this root again.

    Raises
    ------
    RunError
        If the database cannot be used for another reason than damage, or cannot be set aside.
    """
    try:
        index = open_index(root)
        index.check()
        return Rebuilt(index.rebuild())
    except DamagedIndexError:
        damaged = _set_aside(Path(database_url(root).database or ""))
    runs = open_index(root).rebuild()
    answers = _readable_answers(damaged)
    with open_answers(root) as connection:
        for answer in answers:
            connection.execute(ANSWERS.insert().values(**answer))
    return Rebuilt(runs, damaged, len(answers))


def _set_aside(file: Path) -> Path:
    """Rename a database and what SQLite keeps beside it; nothing is deleted."""
    aside = file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    try:
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{file}{suffix}", f"{aside}{suffix}")
    except OSError as error:
        raise RunError(f"{file}: it is damaged and cannot be set aside: {error.strerror or error}") from error
    return aside


def _readable_answers(damaged: Path) -> list[dict[str, Any]]:
    """The answers up to the first that cannot be read, each once; those that no game could have given are left out."""
    names = [column.name for column in ANSWERS.c]
    found: dict[tuple[str, int], dict[str, Any]] = {}
    query = str(sa.select(ANSWERS).compile(dialect=sqlite.dialect()))
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(damaged)) as connection:
        for row in connection.execute(query):
            answer = dict(zip(names, row, strict=True))
            if _is_answer(answer):
                found[answer["game"], answer["number"]] = {**answer, "correct": bool(answer["correct"])}
    return list(found.values())


def _is_answer(values: dict[str, Any]) -> bool:
    """Whether the values are of the columns' types and agree with one another. SQLite keeps anything in any column, and
    does not notice when a page of the file holds something else than it wrote."""
    kinds: dict[type, tuple[type, ...]] = {float: (float, int), bool: (int,)}
    typed = all(isinstance(values[c.name], kinds.get(c.type.python_type, (c.type.python_type,))) for c in ANSWERS.c)
    sides = [values["truth_side"], values["chosen_side"]]
    return typed and set(sides) <= {"left", "right"} and values["correct"] == (sides[0] == sides[1])
