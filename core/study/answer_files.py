"""Answers of the quiz as files of a root, where its database is a local copy that must hold nothing of its own.

``<root>/quiz-answers/<game>.jsonl``: one answer per line, appended. A game is played on one server, so a file has one
writer; other machines that share the root read it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.files import FileStamp, file_stamp, sync_folder

FOLDER = "quiz-answers"
_read: dict[tuple[Path, int], FileStamp] = {}  # files as they were read, and the inode of the database they are in


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
            file.seek(0)
            content = file.read()
            line = (json.dumps(values, allow_nan=False) + "\n").encode()
            file.write(b"\n" + line if content and not content.endswith(b"\n") else line)  # after a torn line
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path}: expected to be able to keep answers there: {error.strerror or error}") from error


def new_answers(root: Path, database: Path, names: list[str]) -> list[dict[str, Any]]:
    """Answers of files that have changed since they were read for a database; torn lines are left out.

    Parameters
    ----------
    root : Path. Checkpoints root.
    database : Path. The local copy.
    names : list of str. Values of an answer.
    """
    inode = database.stat().st_ino
    found: list[dict[str, Any]] = []
    for path in sorted((root / FOLDER).glob("*.jsonl")):
        key, stamp = (path, inode), file_stamp(path)
        if _read.get(key) == stamp:
            continue
        for line in path.read_bytes().splitlines():
            try:
                values = json.loads(line)
            except ValueError:
                continue
            if isinstance(values, dict) and set(names) <= values.keys():
                found.append({name: values[name] for name in names})
        _read[key] = stamp
    return found
