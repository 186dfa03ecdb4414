"""Notes of reviewers on cases: files beside the predictions that they are about.

``notes.jsonl`` in a folder of predictions: a line for each time that a note was written, changed or removed, appended
and flushed to the disk. The last line of a note counts; lines that a kill has torn are left out. The table
``review_notes`` of the database is an index of these files and is made again from them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from core.errors import RunError
from core.files import append_line, parse_line, sync_folder
from core.runs.store import folder as files
from core.runs.store.process import locked
from core.types import VoxelIndex

FILE = "notes.jsonl"
MAX_COMMENT = 5000  # characters

Mark = Literal["accept", "fix", "discuss"]
MARKS: tuple[Mark, ...] = ("accept", "fix", "discuss")


@dataclass(frozen=True)
class ReviewNote:
    """A note on a case.

    Attributes
    ----------
    id : str. Unique.
    model : str. Run id, or name of the checkpoint file.
    epoch : int. Epoch of the checkpoint whose prediction the note is about; 0 if it is not known.
    data, subject : str. Data set and case.
    mark : str. "accept", "fix", "discuss", or empty for none.
    comment : str.
    voxel : tuple of int, or None. Place (i, j, k) in canonical order, from 0; ``None`` for the whole case.
    made_at, changed_at : float. Seconds since 1970.
    """

    id: str
    model: str
    epoch: int
    data: str
    subject: str
    mark: str
    comment: str
    voxel: VoxelIndex | None
    made_at: float
    changed_at: float


def append_note(folder: Path, note: ReviewNote, *, removed: bool = False) -> None:
    """Write a note, a change of it, or its removal; it is on the disk when the function returns.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    path = folder / FILE
    line = json.dumps({**asdict(note), **({"removed": True} if removed else {})}, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / files.LOCK, timeout_s=60), path.open("ab+") as file:
            append_line(file, (line + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
    except OSError as error:
        raise RunError(f"{path}: expected to be able to keep notes there: {error.strerror or error}") from error


def read_notes_file(folder: Path) -> list[ReviewNote]:
    """The notes in a folder of predictions, oldest first; empty without any.

    Raises
    ------
    RunError
        If the file cannot be read.
    """
    path = folder / FILE
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error
    notes: dict[str, ReviewNote] = {}
    for line in lines:
        content = parse_line(line)
        note = None if content is None else _note(content)
        if note is None:
            continue
        if content is not None and content.get("removed"):
            notes.pop(note.id, None)
        else:
            notes[note.id] = note
    return sorted(notes.values(), key=lambda note: (note.made_at, note.id))


def notes_folders(root: Path) -> Iterator[Path]:
    """The folders below a root that hold notes: of runs, then of other checkpoints."""
    for pattern in (f"*/{files.PREDICTIONS}/*/{FILE}", f"{files.PREDICTIONS}/*/*/{FILE}"):
        for path in sorted(root.glob(pattern)):
            if not path.relative_to(root).parts[0].startswith((files.HIDDEN_NEW, files.HIDDEN_DELETED)):
                yield path.parent


def row_of(root_id: str, folder: str, note: ReviewNote) -> dict[str, Any]:
    """The row of a note in the index.

    Parameters
    ----------
    root_id : str. Id of the root.
    folder : str. Folder of the predictions, relative to the root, with ``/``.
    """
    values = {name: value for name, value in asdict(note).items() if name != "voxel"}
    i, j, k = note.voxel or (None, None, None)
    return {"root": root_id, "folder": folder, **values, "i": i, "j": j, "k": k}


def note_of(row: Any) -> ReviewNote:
    """The note of a row of the index."""
    place = (row["i"], row["j"], row["k"])
    names = ("id", "model", "epoch", "data", "subject", "mark", "comment")
    values = {name: row[name] for name in names}
    return ReviewNote(
        **values, voxel=None if None in place else place, made_at=row["made_at"], changed_at=row["changed_at"]
    )


def _note(content: dict[str, Any]) -> ReviewNote | None:
    """The note of a line; ``None`` where the line is not a note."""
    try:
        texts = {name: str(content[name]) for name in ("id", "model", "data", "subject", "mark", "comment")}
        voxel = content["voxel"]
        i, j, k = (int(n) for n in voxel) if voxel is not None else (0, 0, 0)
        times = float(content["made_at"]), float(content["changed_at"])
        if texts["mark"] not in ("", *MARKS):
            return None
        place = None if voxel is None else (i, j, k)
        return ReviewNote(**texts, epoch=int(content["epoch"]), voxel=place, made_at=times[0], changed_at=times[1])
    except (KeyError, TypeError, ValueError):
        return None
