"""Writes the checkpoints of a run, and restores a run from one."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

from core.checkpointing.async_writer import CheckpointWriter
from core.checkpointing.checkpoint import Checkpoint, remove_temporary_checkpoints
from core.checkpointing.metadata import LAST, PREVIOUS, CheckpointMetadata
from core.events import Saved
from core.training.optim import load_optimizer_tensors, optimizer_tensors
from core.training.reporter import Reporter
from core.training.run_progress import RunProgress
from core.training.state import TrainingState
from core.training.step import TrainingStep
from core.training.task import TrainingTask


class RunCheckpoints:
    """Checkpoints in the run folder, written by rank 0 in a background thread.

    A context manager; leaving it waits for the checkpoint that is being written.

    Parameters
    ----------
    task : TrainingTask. Run folder and metadata.
    training_step : TrainingStep. Model, optimizer and EMA.
    state : TrainingState. Counters and scores.
    progress : RunProgress. Elapsed time.
    reporter : Reporter. Emits an event for each checkpoint that has been written.
    """

    def __init__(
        self,
        task: TrainingTask,
        training_step: TrainingStep,
        state: TrainingState,
        progress: RunProgress,
        reporter: Reporter,
    ) -> None:
        self.task, self.training_step, self.state = task, training_step, state
        self.progress, self.reporter = progress, reporter
        self._writer = CheckpointWriter()

    def __enter__(self) -> RunCheckpoints:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def save_last(self) -> None:
        """Write "last": weights, EMA, optimizer and state, all that resuming needs."""
        step = self.training_step
        ema = dict(step.ema.values) if step.ema is not None else {}
        optimizer = optimizer_tensors(step.optimizer, step.model)
        self._write("last", Checkpoint(self._metadata(), dict(step.model.state_dict()), ema, optimizer))

    def save_weights(self, kind: str) -> None:
        """Write the present weights of the model, without training state, under a name such as "best"."""
        self._write(kind, Checkpoint(self._metadata(), dict(self.training_step.model.state_dict())))

    def restore(self, checkpoint: Checkpoint | None) -> None:
        """Continue from a checkpoint, if there is one; temporary files of an interrupted run are removed."""
        if self.task.distributed.is_main:
            remove_temporary_checkpoints(self.task.folder)
        if checkpoint is None:
            return
        step, stored = self.training_step, checkpoint.metadata.progress
        step.model.load_state_dict(checkpoint.model)
        load_optimizer_tensors(step.optimizer, step.model, checkpoint.optimizer)
        if step.ema is not None and checkpoint.average:
            step.ema.load(checkpoint.average)
            step.ema.updates = int(stored["average_updates"])
        if step.scaler.is_enabled() and stored.get("grad_scaler"):
            step.scaler.load_state_dict(stored["grad_scaler"])
        self.state.load_state_dict(stored, checkpoint.metadata.inference)
        self.progress.previous_elapsed_s = float(stored["elapsed_s"])

    def _write(self, kind: str, checkpoint: Checkpoint) -> None:
        if not self.task.distributed.is_main:
            return
        path = self.task.folder / f"{kind}.safetensors"
        best = self.state.best or {}
        saved = Saved(
            kind, str(path), self.state.epoch, self.state.step, best.get("mean_dice"), best.get("measured_on")
        )
        previous = path.with_name(PREVIOUS) if path.name == LAST else None
        self._writer.write(path, checkpoint, lambda: self.reporter.emit(saved), previous)

    def _metadata(self) -> CheckpointMetadata:
        ema = self.training_step.ema
        progress = {
            **self.state.state_dict(),
            "elapsed_s": round(self.progress.elapsed_s, 3),
            "average_updates": ema.updates if ema is not None else 0,
        }
        if self.training_step.scaler.is_enabled():
            progress["grad_scaler"] = self.training_step.scaler.state_dict()
        inference = {**self.state.inference, **self.task.metadata.inference}  # the code is that of now, also resumed
        return replace(self.task.metadata, progress=progress, inference=inference)
