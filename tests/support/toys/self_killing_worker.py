"""The real trainer process, which kills itself before a step, or between a measurement on whole volumes and the
checkpoint after it.

``KILL_AT_STEPS`` or ``KILL_AT_EPOCHS`` in the environment: for each attempt, in order, the number of the step or the
epoch of the measurement; later attempts run to their end. In the last epoch the kill waits until the checkpoint of the
same step is on disk: the run then resumes at the step that was measured already.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from core.checkpointing.metadata import LAST, read_metadata
from core.config import TrainConfig
from core.errors import CheckpointError
from core.events import Event, Listener, Metrics
from core.runs.processes import worker
from core.runs.reporting import recorder
from core.runs.store.state import read_state
from core.sampling.patches import Batch
from core.training import trainer
from core.training.experiment import train_run
from core.training.step import TrainingStep

TIMEOUT_S = 60.0


def experiment(
    config: TrainConfig, folder: Path, listener: Listener, should_stop: Callable[[], bool], resume: bool
) -> None:
    attempt = read_state(folder).attempt
    kill_epoch, kill_step = (instant(f"KILL_AT_{unit}", attempt) for unit in ("EPOCHS", "STEPS"))
    compute = TrainingStep.__call__

    def step(self: TrainingStep, batches: Sequence[Batch], learning_rate: float, number: int) -> None:
        if number == kill_step:
            os.kill(os.getpid(), signal.SIGKILL)
        compute(self, batches, learning_rate, number)

    TrainingStep.__call__ = step  # type: ignore[method-assign]

    def listen(event: Event) -> None:
        listener(event)
        if isinstance(event, Metrics) and event.epoch == kill_epoch and "whole/dice_mean" in event.values:
            if event.epoch == config.run.epochs:
                wait_for_checkpoint(folder / LAST, event.step)
            os.kill(os.getpid(), signal.SIGKILL)

    train_run(config, folder, listen, should_stop, resume)


def instant(name: str, attempt: int) -> int | None:
    """The number for an attempt, from 1, in a variable of the environment; ``None`` if there is none."""
    numbers = [int(number) for number in os.environ.get(name, "").split(",") if number]
    return numbers[attempt - 1] if attempt <= len(numbers) else None


def wait_for_checkpoint(path: Path, step: int) -> None:
    """Wait for the checkpoint of a step; the writer works in another thread."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if read_metadata(path).progress["step"] == step:
                return
        except CheckpointError:
            pass
        time.sleep(0.005)
    raise AssertionError(f"no checkpoint of step {step} within {TIMEOUT_S:g} s")


if __name__ == "__main__":
    trainer.SAVE_INTERVAL_S = 0.0  # a checkpoint at the end of every epoch
    recorder.INDEX_EVERY_S = 0.0  # every row reaches the index before the kill
    sys.exit(worker.run(experiment=experiment))
