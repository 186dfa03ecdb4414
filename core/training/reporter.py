"""Emits the events of a training run; silent on all processes but rank 0."""

from __future__ import annotations

import numpy as np

from core.events import Ended, Event, Listener, Metrics, Note, Picture, Progress, Ready
from core.training.run_progress import RunProgress
from core.training.state import TrainingState

PICTURE_NAME = "val/slice"  # TensorBoard tag


class Reporter:
    """Fills in epoch, step and time of events.

    Parameters
    ----------
    listener : callable, or None. Receives the events; ``None`` on ranks above 0.
    state : TrainingState. Epoch and step.
    progress : RunProgress. Elapsed and remaining time.
    """

    def __init__(self, listener: Listener | None, state: TrainingState, progress: RunProgress) -> None:
        self.listener, self.state, self._progress = listener, state, progress

    def emit(self, event: Event) -> None:
        """Pass an event to the listener."""
        if self.listener is not None:
            self.listener(event)

    def note(self, text: str) -> None:
        """A sentence for the log."""
        self.emit(Note(text))

    def ready(self, facts: dict[str, str], classes: tuple[str, ...], colours: tuple[str, ...]) -> None:
        """The first step follows."""
        self.emit(Ready(facts, classes, self.state.epoch, self.state.step, colours))

    def metrics(self, values: dict[str, float]) -> None:
        """Metric values of the current step by name."""
        self.emit(Metrics(self.state.epoch, self.state.step, self._progress.elapsed_s, values))

    def picture(self, rgb: np.ndarray | None) -> None:
        """A slice of a validation sub-volume, where there is one."""
        if rgb is not None:
            self.emit(Picture(self.state.epoch, self.state.step, PICTURE_NAME, rgb))

    def progress(self, activity: str, loss: float | None = None, sub_volumes_per_s: float = 0.0) -> None:
        """Progress of the run."""
        step = self.state.step
        self.emit(
            Progress(
                epoch=self.state.epoch,
                epochs=self._progress.estimated_epochs(step, self.state.epoch),
                step=step,
                steps_per_epoch=self._progress.steps_per_epoch,
                loss=loss,
                sub_volumes_per_s=sub_volumes_per_s,
                elapsed_s=self._progress.elapsed_s,
                remaining_s=self._progress.remaining_s(step),
                activity=activity,
            )
        )

    def ended(self, stopped: bool) -> None:
        """The run is over."""
        reason, detail = ("stopped", "") if stopped else ("finished", self.state.early_stopping.reason())
        self.emit(Ended(reason, self.state.epoch, self.state.step, self._progress.elapsed_s, detail))
