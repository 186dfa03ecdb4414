"""Writes a run's rows of the index from a thread, so that training never waits for a database.

The rows are a copy of the run folder. While the database cannot be used, the writer drops pending values and later
reads all of them from the folder, so that its memory is bounded however long that takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.config import TrainConfig
from core.errors import RunError
from core.runs.store import folder as files
from core.runs.store import metrics_file
from core.runs.store.metrics_file import MetricRow
from core.runs.store.state import RunState

if TYPE_CHECKING:
    from core.runs.store.index import Index

LOCK_TIMEOUT_MS = 500
ALIVE_EVERY_S = 15.0  # longest time between writes of the row of a run, so that other hosts see that it trains
MAX_PENDING = 2000  # measurements; more are read from the folder
CLOSE_S = 8.0


@dataclass(frozen=True)
class Rhythm:
    """When the index is written.

    Attributes
    ----------
    every_s : float. Shortest time between two writes.
    retry_s : float. Time until the next attempt after a failure.
    """

    every_s: float = 1.0
    retry_s: float = 20.0


@dataclass(frozen=True)
class _Batch:
    """Values of one line of the metrics file, and the bytes of the file up to the end of the line."""

    size: int
    rows: tuple[MetricRow, ...]


class IndexWriter:
    """The writer of one run.

    Parameters
    ----------
    folder : Path. The run folder.
    note : callable. Receives a line for the log; may be called from the thread.
    rhythm : Rhythm.
    """

    def __init__(self, folder: Path, note: Callable[[str], None], rhythm: Rhythm) -> None:
        self._folder, self._note, self._rhythm = folder, note, rhythm
        self._changed = threading.Condition()
        self._state: RunState | None = None  # guarded by the condition, as all up to the thread
        self._pending: list[_Batch] = []
        self._from_folder = True  # the index may differ from the metrics file
        self._waiting = self._writing = self._draining = self._closing = False
        self._next_at = 0.0
        self._thread: threading.Thread | None = None
        self._last: MetricRow | None = None  # last value in the index; of the thread alone, as the next two
        self._size = 0  # bytes of the metrics file whose values are in the index
        self._config: TrainConfig | None = None

    def put(self, state: RunState, rows: Sequence[MetricRow] = (), size: int = 0) -> None:
        """Hand over the present state and new values; returns at once.

        Parameters
        ----------
        state : RunState. The present state.
        rows : sequence of MetricRow. Values that were appended to the metrics file since the last call.
        size : int. Bytes of the metrics file that ends with these values.
        """
        with self._changed:
            self._state, self._waiting = state, True
            if rows and not self._from_folder:
                self._pending.append(_Batch(size, tuple(rows)))
                if len(self._pending) > MAX_PENDING:
                    self._pending, self._from_folder = [], True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="index writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def reread(self) -> None:
        """Have the next write compare the index with the whole metrics file: earlier values have changed."""
        with self._changed:
            self._pending, self._from_folder = [], True

    def drain(self, timeout_s: float = CLOSE_S) -> bool:
        """Write what waits now, out of turn; returns whether it was written, or found impossible, in time."""
        with self._changed:
            self._draining = self._waiting or self._writing
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._draining, timeout_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what waits now and end the thread. A database that gives no answer within the time is left alone; the
        folder has everything."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self._note("note: the database gives no answer; `runs rebuild` brings the index up to date")

    def _run(self) -> None:
        while True:
            with self._changed:
                while (due_s := self._due_in_s()) > 0:
                    if self._closing:
                        return
                    self._changed.wait(due_s)
                state, batches, from_folder = self._state, self._pending, self._from_folder
                self._pending, self._from_folder, self._waiting, self._writing = [], False, False, True
            written = state is None or self._write(state, batches, from_folder)
            with self._changed:
                self._writing = False
                self._draining = self._draining and written and self._waiting
                self._next_at = time.monotonic() + (self._rhythm.every_s if written else self._rhythm.retry_s)
                if not written:
                    self._pending, self._from_folder, self._waiting = [], True, True
                self._changed.notify_all()
                if self._closing and not (written and self._waiting):
                    return

    def _due_in_s(self) -> float:
        """Seconds until the next write."""
        if self._waiting and (self._closing or self._draining):
            return 0.0
        until_s = self._next_at - time.monotonic()
        return max(0.0, until_s if self._waiting else until_s + ALIVE_EVERY_S)

    def _write(self, state: RunState, batches: Sequence[_Batch], from_folder: bool) -> bool:
        """Write to the index; returns whether that was possible."""
        from core.runs.store.database_errors import DamagedIndexError
        from core.runs.store.index import open_index

        try:
            index = open_index(self._folder.parent, LOCK_TIMEOUT_MS)
            self._config = self._config or files.read_config_or_default(self._folder)
            index.put_run(self._folder, state, self._config, files.read_name(self._folder))
            self._write_metrics(index, batches, from_folder)
        except RunError as error:
            advice = "" if isinstance(error, DamagedIndexError) else ", `runs rebuild` repairs the index"
            self._note(f"note: {error}; training continues{advice}")
            return False
        except Exception as error:  # noqa: BLE001 - a bug in here must not end the thread, nor the training
            self._note(f"note: the index of runs was not written: {type(error).__name__}: {error}; training continues")
            return False
        return True

    def _write_metrics(self, index: Index, batches: Sequence[_Batch], from_folder: bool) -> None:
        """Append new rows, or the whole metrics file where the index may differ from it: after a resume, a failure,
        a superseded value or a rebuild by another process."""
        run_id = self._folder.name
        new = [] if from_folder else [batch for batch in batches if batch.size > self._size]
        rows = [row for batch in new for row in batch.rows]
        unknown = from_folder or (bool(rows) and self._last is None)
        if unknown or not index.add_metrics(run_id, rows, self._last, new[-1].size if new else None):
            self._size = metrics_file.metrics_size(self._folder)
            rows = list(metrics_file.read_metrics(self._folder, self._size))
            index.synchronize_metrics(run_id, rows, self._size)
        elif new:
            self._size = new[-1].size
        self._last = rows[-1] if rows else self._last
