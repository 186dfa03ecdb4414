"""What a run leaves behind while it trains: state, measurements, log, TensorBoard events, and rows in the index.

The folder is the truth and is written first; a measurement that cannot be written there ends the run with one clear
line. Index and TensorBoard are conveniences: where they fail the log says so and training goes on.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from core.config import TrainConfig
from core.errors import RunError
from core.events import Ended, Event, Metrics, Picture, Preparing, Progress, Ready, Saved
from core.runs.reporting.log_lines import LogFormatter
from core.runs.reporting.tensorboard import TensorBoardLog
from core.runs.store import folder as files
from core.runs.store.folder import MetricRow
from core.runs.store.state import Best, RunState, State, write_state

STATE_EVERY_S = 1.0
INDEX_EVERY_S = 1.0
INDEX_RETRY_S = 20.0
INDEX_TIMEOUT_MS = 500


class Recorder:
    """Listens to training and writes a run's folder and index.

    Parameters
    ----------
    folder : the run's folder.
    state : where the run is now; this process is its trainer and alone writes ``state.json`` from here on.
    """

    def __init__(self, folder: Path, state: RunState) -> None:
        self.folder = folder
        self.state = state
        self._config: TrainConfig | None = None
        self._narrator = LogFormatter()
        self._board: TensorBoardLog | None = None
        self._told: set[str] = set()
        self._pending: list[MetricRow] = []
        self._superseded: int | None = None
        self._index_failed = False
        self._state_at = self._index_at = 0.0
        self._heard_at: float | None = None

    def __call__(self, event: Event) -> None:
        """Record one event."""
        now = time.monotonic()
        if self._heard_at is not None and now - self._heard_at > self.state.longest_gap_s:
            self.state = dataclasses.replace(self.state, longest_gap_s=round(now - self._heard_at, 1))
        self._heard_at = now
        for line in self._narrator.lines(event):
            files.append_log(self.folder, line)
        if isinstance(event, Preparing):
            self._set(what=f"{event.what} {event.done}/{event.total}" if event.total > 1 else event.what)
        elif isinstance(event, Ready):
            self._ready(event)
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Metrics):
            self._metrics(event)
        elif isinstance(event, Picture):
            self._board_write("picture", event.step, event.name, event.rgb)
        elif isinstance(event, Saved):
            if event.kind == "best":
                best = Best(event.epoch, files.finite(event.mean_dice), event.measured_on)
                self._set(now=True, best=best)
        elif isinstance(event, Ended):
            self._set(now=True, epoch=event.epoch, step=event.step, elapsed_s=event.elapsed_s, remaining_s=None)
        self._write_index()

    def stopping(self) -> None:
        """Somebody asked the run to stop."""
        files.append_log(self.folder, "asked to stop")
        self._set(now=True, state="stopping", what="stopping")

    def end(self, state: State, message: str = "") -> None:
        """Write the run's last state and close everything."""
        if message:
            files.append_log(self.folder, f"{state}: {message}")
        self.state = dataclasses.replace(
            self.state, state=state, message=message, what="", remaining_s=None, sub_volumes_per_s=None,
            ended_at=time.time(), epochs=self.state.epoch if state == "finished" else self.state.epochs,
        )  # fmt: skip
        self._board_write("close")
        self._write_index(closing=True)  # whoever sees that a run has ended finds all that it measured
        self.state = write_state(self.folder, self.state, durable=True)

    def _ready(self, event: Ready) -> None:
        files.keep_metrics_until(self.folder, event.start_step)
        self._superseded = event.start_step
        self._pending = []
        try:
            self._board = TensorBoardLog(self.folder / files.TENSORBOARD, event.start_step)
        except (ImportError, OSError) as error:
            self._tell(f"note: no TensorBoard events: {error}")
        state: State = "stopping" if self.state.state == "stopping" else "running"
        start: dict[str, Any] = dict(epoch=event.start_epoch, step=event.start_step)
        if not event.start_step:
            start["best"] = None  # a resumed run that had no checkpoint begins again
        self._set(now=True, state=state, what="training", facts=dict(event.facts), classes=event.classes, **start)

    def _progress(self, event: Progress) -> None:
        state: State = "stopping" if self.state.state == "stopping" else "running"
        speed = event.sub_volumes_per_s or self.state.sub_volumes_per_s  # 0 and no loss while it validates
        loss = self.state.loss if event.loss is None else event.loss
        self._set(
            state=state, what=event.what, epoch=event.epoch, epochs=event.epochs, step=event.step,
            loss=files.finite(loss), sub_volumes_per_s=files.finite(speed),
            elapsed_s=event.elapsed_s, remaining_s=files.finite(event.remaining_s),
        )  # fmt: skip

    def _metrics(self, event: Metrics) -> None:
        files.append_metrics(self.folder, event.epoch, event.step, event.elapsed_s, event.values)
        self._pending += [
            MetricRow(0, event.epoch, event.step, round(event.elapsed_s, 3), name, value)
            for name, value in event.values.items()
        ]
        self._board_write("scalars", event.step, event.values)
        self._set(epoch=event.epoch, step=event.step, elapsed_s=event.elapsed_s)

    def _set(self, now: bool = False, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, **changes)
        if now or time.monotonic() - self._state_at >= STATE_EVERY_S:
            self.state = write_state(self.folder, self.state)
            self._state_at = time.monotonic()

    def _board_write(self, method: str, *arguments: Any) -> None:
        if self._board is not None:
            try:
                getattr(self._board, method)(*arguments)
            except (OSError, ValueError, ImportError) as error:
                self._tell(f"note: a TensorBoard event could not be written: {error}")

    def _write_index(self, closing: bool = False) -> None:
        """Bring the index up to date, at most once a second; while it fails, rows wait here and training goes on."""
        if not closing and time.monotonic() - self._index_at < INDEX_EVERY_S:
            return
        from core.runs.store.index import DamagedIndexError, open_index

        try:
            index = open_index(self.folder.parent, INDEX_TIMEOUT_MS)
            if self._superseded is not None:
                index.keep_metrics_until(self.folder.name, self._superseded)
                self._superseded = None
            index.add_metrics(self.folder.name, self._pending, again=self._index_failed)
            self._pending, self._index_failed = [], False
            self._config = self._config or files.readable_config(self.folder)
            index.put_run(self.folder, self.state, self._config, files.read_name(self.folder))
            self._index_at = time.monotonic()
        except RunError as error:
            advice = "" if isinstance(error, DamagedIndexError) else ", `runs rebuild` mends the index"
            self._tell(f"note: {error}; training goes on{advice}")
            self._index_at, self._index_failed = time.monotonic() + INDEX_RETRY_S, True

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            files.append_log(self.folder, line)
