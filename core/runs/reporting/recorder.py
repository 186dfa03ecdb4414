"""Records training events in the run folder (state, metrics, pictures, log, TensorBoard) and in the index.

The folder is written first: a measurement that cannot be written there fails the run. Index, pictures and TensorBoard
are optional: where they fail, the log notes it and training continues. The index is written by a thread
(:mod:`core.runs.reporting.index_writer`).
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from core.events import (
    SUB_VOLUME_DICE,
    SUB_VOLUMES_MEASURED,
    Ended,
    Event,
    Metrics,
    Picture,
    Preparing,
    Progress,
    Ready,
    Saved,
)
from core.runs.reporting.index_writer import IndexWriter, Rhythm
from core.runs.reporting.log_lines import LogFormatter
from core.runs.reporting.tensorboard import TensorBoardLog
from core.runs.store import folder as files
from core.runs.store import metrics_file
from core.runs.store.metrics_file import MetricRow
from core.runs.store.pictures import add_picture, drop_pictures_after, encode_png
from core.runs.store.state import Best, RunState, State, write_state

STATE_EVERY_S = 1.0
INDEX_EVERY_S = 1.0
INDEX_RETRY_S = 20.0


class Recorder:
    """Event listener that writes a run's folder and its rows in the index.

    Parameters
    ----------
    folder : Path. The run folder.
    state : RunState. The run's state. This process is the trainer, the only writer of ``state.json`` from here on.
    """

    def __init__(self, folder: Path, state: RunState) -> None:
        self.folder = folder
        self.state = state
        self._formatter = LogFormatter()
        self._board: TensorBoardLog | None = None
        self._logged_notes: set[str] = set()
        self._state_at = 0.0
        self.index = IndexWriter(folder, self._log_once, Rhythm(INDEX_EVERY_S, INDEX_RETRY_S))
        self._event_at: float | None = None

    def __call__(self, event: Event) -> None:
        """Record one event."""
        now = time.monotonic()
        if self._event_at is not None and now - self._event_at > self.state.longest_gap_s:
            self.state = dataclasses.replace(self.state, longest_gap_s=round(now - self._event_at, 1))
        self._event_at = now
        for line in self._formatter.lines(event):
            files.append_log(self.folder, line)
        if isinstance(event, Preparing):
            counted = f"{event.activity} {event.done}/{event.total}" if event.total > 1 else event.activity
            self._update_state(what=counted, done=event.done, total=event.total if event.total > 1 else 0)
        elif isinstance(event, Ready):
            self._record_start(event)
        elif isinstance(event, Progress):
            self._record_progress(event)
        elif isinstance(event, Metrics):
            self._record_metrics(event)
        elif isinstance(event, Picture):
            self._record_picture(event)
        elif isinstance(event, Saved):
            if event.kind == "best":
                best = Best(event.epoch, metrics_file.finite_or_none(event.mean_dice), event.measured_on, event.step)
                self._update_state(now=True, best=best)
        elif isinstance(event, Ended):
            self._update_state(
                now=True, epoch=event.epoch, step=event.step, elapsed_s=event.elapsed_s, remaining_s=None
            )
        if not isinstance(event, Metrics):  # which has handed over its values
            self.index.put(self.state)

    def stop_requested(self) -> None:
        """Record that a stop of the run was requested."""
        files.append_log(self.folder, "stop requested")
        self._update_state(now=True, state="stopping", what="stopping")

    def end(self, state: State, message: str = "") -> None:
        """Write the final state and close all files."""
        if message:
            files.append_log(self.folder, f"{state}: {message}")
        epochs = self.state.epoch if state == "finished" else self.state.epochs
        self.state = dataclasses.replace(self.state.ended(state, message), epochs=epochs)
        self._call_board("close")
        self.index.put(self.state)
        self.index.close()  # before the state is written: the index of an ended run is complete
        self.state = write_state(self.folder, self.state, durable=True)

    def _record_start(self, event: Ready) -> None:
        metrics_file.drop_metrics_after(self.folder, event.start_step)
        drop_pictures_after(self.folder, event.start_step)
        self.index.reread()
        try:
            self._board = TensorBoardLog(self.folder / files.TENSORBOARD, event.start_step)
        except (ImportError, OSError) as error:
            self._log_once(f"note: no TensorBoard events: {error}")
        changes: dict[str, Any] = dict(epoch=event.start_epoch, step=event.start_step)
        if not event.start_step:
            changes |= {"best": None, "latest": None}  # resumed without a checkpoint: from the start
        self._update_state(
            now=True,
            state=self._running_state(),
            what="training",
            done=0,
            total=0,
            facts=dict(event.facts),
            classes=event.classes,
            colours=event.colours,
            **changes,
        )

    def _record_progress(self, event: Progress) -> None:
        speed = event.sub_volumes_per_s or self.state.sub_volumes_per_s  # 0, and no loss, during validation
        loss = self.state.loss if event.loss is None else event.loss
        self._update_state(
            state=self._running_state(),
            what=event.activity,
            epoch=event.epoch,
            epochs=event.epochs,
            step=event.step,
            loss=metrics_file.finite_or_none(loss),
            sub_volumes_per_s=metrics_file.finite_or_none(speed),
            elapsed_s=event.elapsed_s,
            remaining_s=metrics_file.finite_or_none(event.remaining_s),
        )

    def _record_metrics(self, event: Metrics) -> None:
        superseded = metrics_file.append_metrics(self.folder, event.epoch, event.step, event.elapsed_s, event.values)
        rows = [
            MetricRow(0, event.epoch, event.step, round(event.elapsed_s, 3), name, value)
            for name, value in event.values.items()
        ]
        if superseded:
            self.index.reread()
        self._call_board("scalars", event.step, event.values)
        changes: dict[str, Any] = {}
        if SUB_VOLUME_DICE in event.values:
            dice = metrics_file.finite_or_none(event.values[SUB_VOLUME_DICE])
            changes["latest"] = Best(event.epoch, dice, SUB_VOLUMES_MEASURED, event.step)
        now = bool(changes)  # Home, Runs and `runs list` show it
        self._update_state(now=now, epoch=event.epoch, step=event.step, elapsed_s=event.elapsed_s, **changes)
        self.index.put(self.state, rows, metrics_file.metrics_size(self.folder))

    def _record_picture(self, event: Picture) -> None:
        try:
            png = encode_png(event.rgb)
            add_picture(self.folder, event.epoch, event.step, png)
        except (OSError, ImportError) as error:
            self._log_once(f"note: the picture of a validation could not be written: {error}")
        else:
            self._call_board("picture", event.step, event.name, png, event.rgb.shape)

    def _running_state(self) -> State:
        return "stopping" if self.state.state == "stopping" else "running"

    def _update_state(self, now: bool = False, **changes: Any) -> None:
        """Change the state, and write it if ``now`` or once per ``STATE_EVERY_S``."""
        self.state = dataclasses.replace(self.state, **changes)
        if now or time.monotonic() - self._state_at >= STATE_EVERY_S:
            self.state = write_state(self.folder, self.state)
            self._state_at = time.monotonic()

    def _call_board(self, method: str, *arguments: Any) -> None:
        if self._board is not None:
            try:
                getattr(self._board, method)(*arguments)
            except (OSError, ValueError, ImportError) as error:
                self._log_once(f"note: a TensorBoard event could not be written: {error}")

    def _log_once(self, line: str) -> None:
        if line not in self._logged_notes:
            self._logged_notes.add(line)
            files.append_log(self.folder, line)
