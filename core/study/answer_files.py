"""Answers of the quiz as files of a root, where its database is a local copy that must hold nothing of its own.

``<root>/quiz-answers/<game>.jsonl``: one answer per line, appended. A game is played on one server, so a file has one
writer; other machines that share the root read it.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.engine import Connection
from sqlalchemy.pool import Pool

from core.errors import RunError
from core.files import NO_FILE, FileStamp, append_line, file_stamp, parse_line, sync_folder
from core.runs.store.database import FILE, WAL_SUFFIX
from core.runs.store.schema import ANSWERS

FOLDER = "quiz-answers"
_read: WeakKeyDictionary[Pool, dict[Path, FileStamp]] = WeakKeyDictionary()  # files as they were read for a database


def append_answer(root: Path, values: dict[str, Any]) -> None:
    """Append an answer; it is on the disk when the function returns.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    path = root / FOLDER / f"{values['game']}.jsonl"
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("ab+") as file:
            append_line(file, (json.dumps(values, allow_nan=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path}: expected to be able to keep answers there: {error.strerror or error}") from error


def new_answers(root: Path, connection: Connection, names: list[str]) -> list[dict[str, Any]]:
    """Answers of files that have changed since they were read for a database; torn lines are left out.

    Parameters
    ----------
    root : Path. Checkpoints root.
    connection : sqlalchemy.Connection. To the local copy. Its connections end where its file was replaced.
    names : list of str. Values of an answer.
    """
    known = _read.setdefault(connection.engine.pool, {})
    found: list[dict[str, Any]] = []
    for path in sorted((root / FOLDER).glob("*.jsonl")):
        stamp = file_stamp(path)
        if known.get(path) == stamp:
            continue
        for line in path.read_bytes().splitlines():
            values = parse_line(line)
            if values is not None and set(names) <= values.keys():
                found.append({name: values[name] for name in names})
        known[path] = stamp
    return found


def earlier_answers(root: Path, connection: Connection, names: list[str]) -> list[dict[str, Any]]:
    """Answers in an SQLite file in the root, once per database: of an earlier version, which kept its index there, or
    of a root that was copied from a local disk. A copy of the file is read.

    Raises
    ------
    RunError
        If the file cannot be read.
    """
    path = root / FILE
    known, stamp = _read.setdefault(connection.engine.pool, {}), file_stamp(path)
    if stamp == NO_FILE or known.get(path) == stamp:
        return []
    try:
        with tempfile.TemporaryDirectory(prefix="segmentarium-answers-") as scratch:
            copy = Path(scratch) / path.name
            for suffix in ("", WAL_SUFFIX):  # the second one is there if a program was killed
                with suppress(FileNotFoundError):
                    shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
            with closing(sqlite3.connect(copy)) as earlier:
                columns = {row[1] for row in earlier.execute(f"pragma table_info({ANSWERS.name})")}
                query = f"select {', '.join(names)} from {ANSWERS.name}"
                rows = earlier.execute(query).fetchall() if set(names) <= columns else []
    except (OSError, sqlite3.Error) as error:
        raise RunError(
            f"{path}: expected the answers of an earlier version, got: {error}; repair the file or move it away"
        ) from error
    known[path] = stamp
    return [dict(zip(names, row, strict=True)) for row in rows]
