"""Decisions that depend on the clock, made by rank 0 for all processes: progress, when to report, validate,
save and stop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from core.compute.distributed import DistributedContext
from core.training.run_progress import RunProgress
from core.training.validation_rhythm import ValidationRhythm

MIN_REPORT_INTERVAL_S = 1.0  # each report synchronises with the device
REPORTS_PER_RUN = 300  # about, for long runs


@dataclass(frozen=True)
class ClockReading:
    """Decisions at one step, equal on all processes.

    Attributes
    ----------
    progress : float. Fraction of the training steps done, 0 to 1; above 1 if time ran out during a step.
    report_due, save_due : bool. Whether to report metrics, or to write a checkpoint.
    validation_due : bool. Whether to validate on sub-volumes.
    stopped : bool. Whether a stop was requested.
    """

    progress: float = 0.0
    report_due: bool = False
    save_due: bool = False
    validation_due: bool = False
    stopped: bool = False


class TrainingClock:
    """Intervals of reports, validations and checkpoints, and the stop request of a run.

    Parameters
    ----------
    progress : RunProgress. Elapsed time and progress of the run.
    rhythm : ValidationRhythm. When validations are due.
    distributed : DistributedContext. Processes that follow rank 0.

    Attributes
    ----------
    reading : ClockReading. Result of the last :meth:`update`.
    has_saved : bool. Whether this process has written a checkpoint.
    """

    def __init__(self, progress: RunProgress, rhythm: ValidationRhythm, distributed: DistributedContext) -> None:
        self.progress, self.rhythm, self.distributed = progress, rhythm, distributed
        self.reading = ClockReading()
        self.has_saved = False
        self._reported = self._saved = time.monotonic()

    def start(self) -> None:
        """Start the clock of the run and all intervals: the first step follows."""
        self.progress.start()
        self._reported = self._saved = time.monotonic()

    @property
    def training_s_since_report(self) -> float:
        """Time since the last :meth:`mark_reported`, without that of :meth:`report_paused`."""
        return time.monotonic() - self._reported

    @contextlib.contextmanager
    def report_paused(self) -> Iterator[None]:
        """Leave the time of the block out of the report interval."""
        training_s = self.training_s_since_report
        try:
            yield
        finally:
            self._reported = time.monotonic() - training_s

    def mark_reported(self) -> None:
        """Restart the report interval."""
        self._reported = time.monotonic()

    def mark_saved(self) -> None:
        """Restart the checkpoint interval."""
        self._saved = time.monotonic()
        self.has_saved = True

    def update(
        self, step: int, save_interval_s: float, stop_requested: bool = False, epoch_complete: bool = False
    ) -> None:
        """Read the clock on rank 0 and broadcast the reading. Once stopped, a run stays stopped.

        Parameters
        ----------
        step : int. Optimizer steps done.
        save_interval_s : float. Minimum time between checkpoints.
        stop_requested : bool. Whether a stop of this process was requested; rank 0 decides.
        epoch_complete : bool. Whether the step is the last one of its epoch.
        """
        now, elapsed_s = time.monotonic(), self.progress.elapsed_s
        progress, report_due, save_due, validation_due, stopped = self.distributed.broadcast(
            (
                self.progress.fraction(step),
                now - self._reported >= max(MIN_REPORT_INTERVAL_S, elapsed_s / REPORTS_PER_RUN),
                now - self._saved >= save_interval_s,
                self.rhythm.is_due(elapsed_s, epoch_complete),
                self.reading.stopped or stop_requested,
            )
        )
        self.reading = ClockReading(progress, bool(report_due), bool(save_due), bool(validation_due), bool(stopped))
