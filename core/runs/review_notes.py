"""Notes of reviewers on the cases of a model: written, listed, and exported as CSV or JSON."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.csv_text import csv_table
from core.errors import RunError
from core.runs.predictions import predictions_folder
from core.runs.store.index import open_index
from core.runs.store.review_notes import MARKS, MAX_COMMENT, ReviewNote, append_note, read_notes_file
from core.types import VoxelIndex

__all__ = ["MARKS", "NewNote", "NotedModel", "ReviewNote", "all_notes", "latest_marks", "notes_csv", "notes_json"]

HEADER = (
    "Model", "Epoch", "Data", "Case", "Mark", "Comment", "i (voxel, from 1)", "j (voxel, from 1)", "k (voxel, from 1)",
    "Written (UTC)", "Changed (UTC)", "Id",
)  # fmt: skip


@dataclass(frozen=True)
class NewNote:
    """What a reviewer says about a case.

    Attributes
    ----------
    subject : str. The case.
    mark : str. "accept", "fix", "discuss", or empty for none.
    comment : str. Stripped when it is stored.
    voxel : tuple of int, or None. Place in canonical order, from 0; ``None`` for the whole case.
    epoch : int. Epoch of the checkpoint that made the prediction; 0 if it is not known.

    Raises
    ------
    RunError
        If it says nothing, the mark is unknown, or the comment is too long.
    """

    subject: str
    mark: str = ""
    comment: str = ""
    voxel: VoxelIndex | None = None
    epoch: int = 0

    def __post_init__(self) -> None:
        if self.mark not in ("", *MARKS):
            raise RunError(f"mark: expected one of {', '.join(MARKS)}, or none; got {self.mark!r}")
        if not self.mark and not self.comment.strip():
            raise RunError(f"{self.subject}: expected a mark ({', '.join(MARKS)}) or a comment, got neither")
        if len(self.comment) > MAX_COMMENT:
            raise RunError(f"comment: expected at most {MAX_COMMENT} characters, got {len(self.comment)}")


@dataclass(frozen=True)
class NotedModel:
    """A model and a data set whose cases are noted.

    Attributes
    ----------
    root : Path. Checkpoints root.
    checkpoint : Path. The model.
    data : Path. Folder of the data set.
    """

    root: Path
    checkpoint: Path
    data: Path

    @property
    def _folder(self) -> Path:
        return predictions_folder(self.root, self.checkpoint, self.data)

    def notes(self) -> list[ReviewNote]:
        """The notes, oldest first.

        Raises
        ------
        RunError
            If they cannot be read.
        """
        return read_notes_file(self._folder)

    def add(self, new: NewNote) -> ReviewNote:
        """Store a note: it is on the disk when the function returns.

        Raises
        ------
        RunError
            If it cannot be written.
        """
        now = time.time()
        is_run = self._folder.parent.parent == self.checkpoint.absolute().parent
        model = self.checkpoint.absolute().parent.name if is_run else self.checkpoint.stem
        content = (new.epoch, self.data.name, new.subject, new.mark, new.comment.strip(), new.voxel)
        note = ReviewNote(secrets.token_hex(16), model, *content, made_at=now, changed_at=now)
        self._write(note)
        return note

    def change(self, note: ReviewNote, mark: str, comment: str) -> None:
        """Replace mark and comment of a note; errors as for :meth:`add`."""
        NewNote(note.subject, mark, comment)  # checked
        self._write(replace(note, mark=mark, comment=comment.strip(), changed_at=time.time()))

    def remove(self, note: ReviewNote) -> None:
        """Remove a note; errors as for :meth:`add`."""
        self._write(replace(note, changed_at=time.time()), removed=True)

    def _write(self, note: ReviewNote, removed: bool = False) -> None:
        append_note(self._folder, note, removed=removed)
        with contextlib.suppress(RunError):  # the index is made equal to the files when it is next read
            open_index(self.root).synchronize_notes()


def all_notes(root: Path) -> list[ReviewNote]:
    """The notes on the cases of all models of a root, oldest first.

    Raises
    ------
    RunError
        If a file or the database cannot be read.
    """
    if not root.is_dir():
        return []
    index = open_index(root)
    index.synchronize_notes()
    return index.notes()


def latest_marks(notes: Sequence[ReviewNote]) -> dict[str, str]:
    """The newest mark of each case that has one.

    Parameters
    ----------
    notes : sequence of ReviewNote. Oldest first.
    """
    changed = sorted((note for note in notes if note.mark), key=lambda note: note.changed_at)
    return {note.subject: note.mark for note in changed}


def notes_json(notes: Sequence[ReviewNote]) -> list[dict[str, Any]]:
    """Notes as plain values; voxels count from 0."""
    return [asdict(note) for note in notes]


def notes_csv(notes: Sequence[ReviewNote]) -> str:
    """Notes as CSV, a line each; voxels count from 1, as on screen."""
    rows = []
    for note in notes:
        place = [None] * 3 if note.voxel is None else [n + 1 for n in note.voxel]
        times = (_utc(note.made_at), _utc(note.changed_at))
        rows.append((note.model, note.epoch, note.data, note.subject, note.mark, note.comment, *place, *times, note.id))
    return csv_table(HEADER, rows)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
