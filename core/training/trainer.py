"""The training loop. It knows tensors, epochs and events; it knows nothing of files but its checkpoints, nor of who
listens.

Every random draw is a function of the seed and of the step or epoch it is for, so a run that is resumed draws what it
would have drawn. Nothing in a step waits for the device except where a comment says so.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from core.checkpointing.async_writer import CheckpointWriter
from core.checkpointing.checkpoint import Checkpoint, Description, sweep
from core.checkpointing.metadata import LAST, PREVIOUS
from core.compute.distributed import ALONE, DistributedContext
from core.config import TrainConfig
from core.errors import UserError
from core.events import Ended, Event, Listener, Metrics, Note, Picture, Progress, Ready, Saved
from core.sampling.patches import PatchSampler
from core.training.acceleration import accelerate
from core.training.batches import VALIDATION, Feed, generator
from core.training.early_stopping import EarlyStopping
from core.training.losses import build_loss
from core.training.optim import averaged_weights, learning_rate, load_optimizer_tensors, optimizer_tensors
from core.training.schedule import Schedule
from core.training.step import TrainingStep
from core.training.validation_scores import WholeVolumeScore
from core.training.validator import HeldOut
from core.types import TrainingSubject, triple

REPORT_S = 1.0  # between progress reports, each of which waits for the device once
SAVE_S = 15.0  # least time between checkpoints at the ends of epochs


class TrainingFailedError(UserError):
    """Training cannot go on, for a reason that is the data's or the configuration's."""


@dataclass(frozen=True)
class Task:
    """What :func:`fit` needs to know.

    Attributes
    ----------
    config : with everything decided: sub-volume, channels, precision "fp32" or "bf16".
    model : on the device that is to train it.
    train, held_out : subjects, normalised, all of one spacing and with the model's channels.
    classes, colours : by class index, background first.
    folder : where ``last.safetensors`` and ``best.safetensors`` go.
    description : of the checkpoints; progress and inference are filled in here.
    facts : shown to people when training starts.
    resident_bytes : most that the subjects may take on the device; what exceeds it is streamed from disk.
    team : of processes that all call :func:`fit` with the same; the leader alone writes and tells.
    """

    config: TrainConfig
    model: nn.Module
    train: Sequence[TrainingSubject]
    held_out: Sequence[TrainingSubject]
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    folder: Path
    description: Description
    facts: dict[str, str] = field(default_factory=dict)
    resident_bytes: int = 2**62
    team: DistributedContext = ALONE


def fit(
    task: Task,
    listen: Listener,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    resume: Checkpoint | None = None,
    started: float | None = None,
) -> None:
    """Train until the last epoch, the end of the time budget, or until asked to stop; the last checkpoint is always
    written.

    Parameters
    ----------
    task : what to train on what.
    listen : gets the events of :mod:`core.events`.
    should_stop : asked after every step.
    resume : a checkpoint of this very task, read with its training state.
    started : ``time.monotonic()`` at which a time budget began; now if not given.

    Raises
    ------
    TrainingFailedError
        If the loss is no longer finite; the last finite checkpoint is kept.
    LostProcessError
        If another process of the team is gone.
    CheckpointError
        If a checkpoint cannot be written.
    """
    trainer = _Trainer(task, listen, should_stop, time.monotonic() if started is None else started)
    with trainer.writer, trainer.feed:
        trainer.restore(resume)
        trainer.held_out.plan()
        trainer.announce()
        trainer.consult(SAVE_S)
        if trainer.owes_validation():
            trainer.end_epoch()
        while not trainer.over():
            trainer.train_epoch()
            if not trainer.stopped:
                trainer.end_epoch()
        if not trainer.stopped:
            trainer.finish()
        trainer.save_last()
    trainer.end()


class _Turn(NamedTuple):
    """What depends on the clock: how far the run is, and whether it is time to report or to save."""

    progress: float
    report: bool
    save: bool


class _Trainer:
    def __init__(self, task: Task, listen: Listener, should_stop: Callable[[], bool], started: float) -> None:
        config, device = task.config, next(task.model.parameters()).device
        self.task, self.config, self.team, self.should_stop = task, config, task.team, should_stop
        self.listen: Listener = listen if self.team.is_main else _unheard
        self.device, self.model, self.classes = device, task.model, len(task.classes)
        self.size = triple(config.sampling.sub_volume)
        self.feed = Feed(
            config, task.train, task.held_out, self.classes, device, task.resident_bytes, task.folder, self.team
        )
        self.training = TrainingStep(self.model, build_loss(config.loss), config.optim, config.run.precision, self.team)
        accelerate(self.training, config.run.acceleration, lambda words: self.listen(Note(words)))
        self.average = self.training.average
        self.writer = CheckpointWriter()
        self.steps_per_epoch = self.feed.steps_per_epoch
        self.schedule = Schedule(config.run, self.steps_per_epoch, started)
        places = PatchSampler(task.held_out, self.size, config.sampling, self.classes).draw(
            config.sampling.samples_val if task.held_out else 0, generator(config.run.seed, VALIDATION, 0)
        )
        self.held_out = HeldOut(
            config, self.model, self.training.loss, self.feed.held_out, places, self.size, task.colours, self.schedule,
            self.team,
        )  # fmt: skip
        self.epoch = self.step = self.validated = 0
        self.best: dict[str, Any] | None = None
        self.early_stopping = EarlyStopping(config.validation.patience)
        self.inference: dict[str, Any] = {"mode": (self.held_out.wanted or ["tiles"])[0], "tile": list(self.size)}
        self.stopped = False
        self.saved_at = time.monotonic()
        self._reset_window()

    # --- where the run is -------------------------------------------------------------------------------------------

    @property
    def elapsed_s(self) -> float:
        return self.schedule.elapsed_s

    def over(self) -> bool:
        return self.stopped or self.early_stopping.should_stop or self.turn.progress >= 1.0

    def consult(self, save_after_s: float, stop: bool = False) -> None:
        """Ask the clock; all processes of a team get the leader's answer."""
        now = time.monotonic()
        progress, report, save, stopped = self.team.broadcast(
            (
                self.schedule.progress(self.step),
                now - self.window_began >= max(REPORT_S, self.elapsed_s / 300),
                now - self.saved_at >= save_after_s,
                self.stopped or stop,
            )
        )
        self.turn = _Turn(progress, bool(report), bool(save))
        self.stopped = bool(stopped)

    # --- one epoch --------------------------------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """Steps until the epoch, the budget or somebody's patience ends; a resumed epoch goes on where it was."""
        self.model.train()
        self.epoch = self.step // self.steps_per_epoch + 1
        last = self.epoch * self.steps_per_epoch
        for batches in self.feed.batches(self.step, last):
            self.training(batches, learning_rate(self.config.optim, self.turn.progress), self.step)
            self.step += 1
            self.consult(self.config.run.checkpoint_minutes * 60, self.should_stop())
            if self.step == last or self.turn.report:
                self._report()
            if self.turn.save and self.step < last:  # what is measured at its end belongs to an epoch
                self.save_last()
            if self.over():
                break

    def end_epoch(self) -> None:
        """Measure, and write what is due."""
        self.validate()
        self.validated = self.epoch
        self.keep_if_due()
        self.consult(min(SAVE_S, self.config.run.checkpoint_minutes * 60))
        if self.epoch == 1 or self.turn.save:
            self.save_last()

    def owes_validation(self) -> bool:
        """Whether the run was stopped between the last step of an epoch and its validation."""
        return self.validated < self.epoch and self.step == self.epoch * self.steps_per_epoch

    def _report(self) -> None:
        loss = self._check_finite()
        seconds = time.monotonic() - self.window_began
        speed = self.training.steps * self.feed.per_step / max(seconds, 1e-9)
        rate = learning_rate(self.config.optim, self.turn.progress)
        self.listen(Metrics(self.epoch, self.step, self.elapsed_s, {"train/loss": loss, "lr": rate, "speed": speed}))
        self._show("training", self.step - (self.epoch - 1) * self.steps_per_epoch, loss, speed)
        self._reset_window()

    def _check_finite(self) -> float:
        """Mean loss of the window; the one place of a training step that waits for the device."""
        loss, failed = self.training.read()
        if failed is None and math.isfinite(loss):
            return loss
        step = self.step - 1 if failed is None else failed
        raise TrainingFailedError(
            f"the loss or its gradient is not finite any more at step {step + 1} (epoch "
            f"{step // self.steps_per_epoch + 1}): {self._blame(step)}; no such step reached the weights and the last "
            "checkpoint is finite: resume with a lower learning_rate, with clip_norm, or with precision fp32"
        )

    def _blame(self, step: int) -> str:
        """Which sub-volume it was: the step's batches are drawn again and looked at one by one."""
        suspects = []
        for (image, label), places in zip(self.feed.again(step), self.feed.places(step), strict=True):
            for n, place in enumerate(places):
                where = (
                    f"sub-volume at voxel {','.join(map(str, place.start))} of {self.feed.subjects.ids[place.subject]}"
                )
                if not bool(torch.isfinite(image[n]).all()):
                    return f"{where} holds values that are not finite"
                with torch.no_grad():
                    if not bool(torch.isfinite(self.training.loss_of(image[n : n + 1], label[n : n + 1]))):
                        return f"{where} has a loss that is not finite"
                suspects.append(where)
        return f"the gradient of {' or '.join(suspects)}"

    def _reset_window(self) -> None:
        self.window_began = time.monotonic()
        self.training.reset()

    def _show(self, what: str, step_in_epoch: int, loss: float | None, speed: float) -> None:
        self.listen(
            Progress(
                self.epoch, self.schedule.epochs(self.step), self.step, step_in_epoch, self.steps_per_epoch, loss,
                speed, self.elapsed_s, self.schedule.remaining_s(self.step), what,
            )
        )  # fmt: skip

    # --- validation -------------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Held-out sub-volumes after every epoch, whole volumes after the chosen ones."""
        if not self.task.held_out:
            return
        with self._weights_to_measure():
            if self.held_out.places:
                self._validate_sub_volumes()
            if self.held_out.whole_due(self.epoch) and not self.over():
                score = self.held_out.score_whole(self._show_segmenting)
                self._tell_whole(score)
                self.early_stopping.update(score.mean_dice)

    def _validate_sub_volumes(self) -> None:
        self._show("validating", self.steps_per_epoch, None, 0.0)
        score = self.held_out.score_sub_volumes()
        values = score.values(self.task.classes)
        self.listen(Metrics(self.epoch, self.step, self.elapsed_s, values))
        if score.picture is not None:
            self.listen(Picture(self.epoch, self.step, "val/slice", score.picture))
        if not self.held_out.modes:
            self._keep_if_best(values["val/dice_mean"], "held-out sub-volumes")

    def _show_segmenting(self, done: int, total: int) -> None:
        self._show(f"segmenting held-out volumes {done}/{total}", self.step % self.steps_per_epoch, None, 0.0)

    def _tell_whole(self, score: WholeVolumeScore) -> None:
        self.listen(Metrics(self.epoch, self.step, self.elapsed_s, score.values(self.task.classes)))
        self._keep_if_best(score.mean_dice, "held-out whole volumes")

    @contextlib.contextmanager
    def _weights_to_measure(self) -> Iterator[None]:
        """Meanwhile the model holds the running average of its weights, if there is one; every process of a team holds
        the leader's statistics of batches."""
        with averaged_weights(self.model, self.average):
            self.team.broadcast_tensors(self.model.buffers())
            yield

    def _keep_if_best(self, mean_dice: float, measured_on: str) -> None:
        if math.isnan(mean_dice) or (self.best is not None and mean_dice <= self.best["mean_dice"]):
            return
        self._check_finite()
        self.best = {"epoch": self.epoch, "mean_dice": mean_dice, "measured_on": measured_on}
        self._write("best", Checkpoint(self._description(), dict(self.model.state_dict())))

    # --- beginning and end ------------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Say what is about to happen."""
        facts = {
            **self.task.facts,
            "data": self.feed.memory_summary,
        }
        if self.held_out.wanted and not self.held_out.modes:
            facts["whole volumes"] = "not measured: they would take more than half of the time budget"
        self.listen(Ready(facts, self.task.classes, self.epoch, self.step))

    def finish(self) -> None:
        """The last validation in whole volumes; decides how volumes are to be segmented from now on."""
        if not self.held_out.modes or not self.step:
            return
        with self._weights_to_measure():
            score, dice = self.held_out.score_all_ways(self._show_segmenting)
            self.inference |= {"mode": score.mode, "dice": dice}
            self._tell_whole(score)

    def end(self) -> None:
        reason = "stopped" if self.stopped else "finished"
        why = "" if self.stopped else self.early_stopping.reason()
        self.listen(Ended(reason, self.epoch, self.step, self.elapsed_s, why))

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def keep_if_due(self) -> None:
        """The weights to predict with, under the name of the epoch, when one is to be kept for good."""
        every = self.config.run.keep_every
        if every and self.epoch % every == 0:
            with self._weights_to_measure():
                self._check_finite()
                self._write(f"epoch-{self.epoch:04d}", Checkpoint(self._description(), dict(self.model.state_dict())))

    def save_last(self) -> None:
        """Write everything that resuming needs, if it is finite."""
        self._check_finite()
        average = dict(self.average.values) if self.average is not None else {}
        tensors = optimizer_tensors(self.training.optimizer, self.model)
        self._write("last", Checkpoint(self._description(), dict(self.model.state_dict()), average, tensors))
        self.saved_at = time.monotonic()

    def _write(self, kind: str, checkpoint: Checkpoint) -> None:
        if not self.team.is_main:
            return
        path = self.task.folder / f"{kind}.safetensors"
        best = self.best or {}
        saved = Saved(kind, str(path), self.epoch, self.step, best.get("mean_dice"), best.get("measured_on"))
        previous = path.with_name(PREVIOUS) if path.name == LAST else None
        self.writer.write(path, checkpoint, lambda: self.listen(saved), previous)

    def _description(self) -> Description:
        given = self.task.description
        updates = self.average.updates if self.average is not None else 0
        progress = {
            "epoch": self.epoch, "step": self.step, "elapsed_s": round(self.elapsed_s, 3), "best": self.best,
            "average_updates": updates, "validated": self.validated, "patience": self.early_stopping.to_json(),
        }  # fmt: skip
        return Description(
            given.config, given.labels, given.modalities, given.spacing_mm, progress, dict(self.inference),
            given.dataset, given.split,
        )  # fmt: skip

    def restore(self, resume: Checkpoint | None) -> None:
        """Go back to where a checkpoint was written; stale temporary files are swept."""
        if self.team.is_main:
            sweep(self.task.folder)
        if resume is None:
            return
        progress = resume.description.progress
        self.model.load_state_dict(resume.model)
        load_optimizer_tensors(self.training.optimizer, self.model, resume.optimizer)
        if self.average is not None and resume.average:
            self.average.load(resume.average)
            self.average.updates = int(progress["average_updates"])
        if "patience" in progress:  # older checkpoints have none
            self.early_stopping.restore(progress["patience"])
        self.epoch, self.step = int(progress["epoch"]), int(progress["step"])
        self.validated = int(progress.get("validated", self.epoch))
        self.schedule.elapsed_before_s, self.best = float(progress["elapsed_s"]), progress["best"]


def _unheard(event: Event) -> None:
    """What the other processes of a team say is the leader's to say."""
