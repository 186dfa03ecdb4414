"""The training loop: load a batch, take a step, validate, save.

Every random draw is a function of the seed and the step or epoch, so that a resumed run continues as if it had not been
interrupted. A step never synchronises with the device, except where a comment marks it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from core.checkpointing.checkpoint import Checkpoint
from core.events import SUB_VOLUME_DICE, SUB_VOLUMES_MEASURED, WHOLE_VOLUMES_MEASURED, Listener, Segmented
from core.losses.build import build_loss
from core.sampling.patches import Batch, PatchSampler
from core.training.acceleration import accelerate
from core.training.batch_loader import VALIDATION_STREAM, BatchLoader, seeded_generator
from core.training.clock import TrainingClock
from core.training.early_stopping import EarlyStopping
from core.training.nonfinite import finite_mean_loss
from core.training.optim import averaged_weights, learning_rate_at
from core.training.reporter import Reporter
from core.training.run_checkpoints import RunCheckpoints
from core.training.run_progress import RunProgress
from core.training.state import TrainingState
from core.training.step import TrainingStep
from core.training.subject_sets import SubjectSets
from core.training.task import TrainingTask
from core.training.validation_budget import SUB_VOLUMES, TILES
from core.training.validation_rhythm import ValidationRhythm
from core.training.validation_scores import ValidationSet, WholeVolumeScore
from core.training.validator import Validator
from core.types import triple

SAVE_INTERVAL_S = 15.0  # minimum time between checkpoints at the ends of epochs


def fit(
    task: TrainingTask,
    listener: Listener,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    resume: Checkpoint | None = None,
) -> None:
    """Train until the last epoch, the end of the time budget, early stopping or a stop request. The last checkpoint is
    always written. A time budget begins with the first step.

    Parameters
    ----------
    task : TrainingTask. Network, data and configuration.
    listener : callable. Receives the events of :mod:`core.events`.
    should_stop : callable. Called after every step; true stops the run.
    resume : Checkpoint, optional. A checkpoint of this run with its training state.

    Raises
    ------
    NonFiniteLossError
        If the loss or its gradient is not finite; the last finite checkpoint is kept.
    LostProcessError
        If another process of this run has ended.
    CheckpointError
        If a checkpoint cannot be written.
    """
    trainer = _Trainer(task, listener, should_stop)
    with trainer.checkpoints, trainer.data:
        trainer.start(resume)
        while not trainer.done:
            for batches in trainer.load_epoch():
                trainer.train_step(batches)
            if not trainer.stopped:
                trainer.complete_epoch()
        if not trainer.stopped:
            trainer.validate_final()
            trainer.save_unmeasured()
        trainer.save_last()
    trainer.report_end()


class _Trainer:
    """The parts of the training loop, and the order in which they work together.

    Parameters
    ----------
    task : TrainingTask.
    listener : callable. Receives events on rank 0.
    should_stop : callable.
    """

    def __init__(self, task: TrainingTask, listener: Listener, should_stop: Callable[[], bool]) -> None:
        config, distributed = task.config, task.distributed
        device = next(task.model.parameters()).device
        size, classes = triple(config.sampling.sub_volume), len(task.classes)
        self.task, self.config, self.should_stop = task, config, should_stop

        self.data = SubjectSets(task.train, task.held_out, device, task.resident_bytes, task.folder)
        sampler = PatchSampler(task.train, size, config.sampling, classes)
        self.loader = BatchLoader(config, self.data.train, sampler, distributed)

        self.state = TrainingState(EarlyStopping(config.validation.patience))
        self.progress = RunProgress(config.run, self.loader.steps_per_epoch)
        self.rhythm = ValidationRhythm(self.progress.budget_s)
        self.clock = TrainingClock(self.progress, self.rhythm, distributed)
        self.reporter = Reporter(listener if distributed.is_main else None, self.state, self.progress)

        loss = build_loss(config.loss, task.ignore, task.loss_facts)
        self.step = TrainingStep(task.model, loss, config.optim, config.run.precision, distributed)
        accelerate(self.step, config.run.acceleration, self.reporter.note)

        self.validator = Validator(config, task.model, loss, self._validation_set(classes), self.progress, distributed)
        self.state.inference = {"mode": (self.validator.configured_modes or ["tiles"])[0], "tile": list(size)}
        self.checkpoints = RunCheckpoints(task, self.step, self.state, self.progress, self.reporter)
        self.best_whole_volumes: Segmented | None = None
        self.last_whole_volumes: tuple[int, WholeVolumeScore] | None = None  # step, and score of its weights

    def _validation_set(self, classes: int) -> ValidationSet:
        """The held-out subjects, and the sub-volumes of them that every epoch is validated on."""
        task, sampling = self.task, self.config.sampling
        size = triple(sampling.sub_volume)
        locations = PatchSampler(task.held_out, size, sampling, classes).draw(
            sampling.samples_val if task.held_out else 0,
            seeded_generator(self.config.run.seed, VALIDATION_STREAM, 0),
        )
        return ValidationSet(
            self.data.held_out,
            tuple(locations),
            size,
            task.colours,
            task.outputs,
            task.regions,
            self.config.data.modality_indicator,
        )

    @property
    def stopped(self) -> bool:
        """Whether a stop was requested."""
        return self.clock.reading.stopped

    @property
    def done(self) -> bool:
        """Whether training steps are over: stopped, stopped early, or complete."""
        reading = self.clock.reading
        return reading.stopped or self.state.early_stopping.should_stop or reading.progress >= 1.0

    # --- start --------------------------------------------------------------------------------------------------------

    def start(self, resume: Checkpoint | None) -> None:
        """Restore a checkpoint, announce the run, and complete an epoch that was stopped before its validation."""
        self.checkpoints.restore(resume)
        self.validator.reserve_time()
        self.rhythm.expected_s = self.validator.expected_s(SUB_VOLUMES)
        facts = {**self.task.facts, "data": self.data.memory_summary}
        if self.validator.configured_modes and not self.validator.modes:
            facts["whole volumes"] = "not measured: they would take more than half of the time budget"
        self.reporter.ready(facts, self.task.classes, self.task.colours)
        self.clock.start()
        if resume is not None:
            self.rhythm.resume(self.progress.elapsed_s)
        complete = self.state.step == self.state.epoch * self.loader.steps_per_epoch
        self.clock.update(self.state.step, SAVE_INTERVAL_S, epoch_complete=complete)
        if complete and self.state.validated_epoch < self.state.epoch:
            self.complete_epoch()

    # --- load and step ------------------------------------------------------------------------------------------------

    def load_epoch(self) -> Iterator[list[Batch]]:
        """The batches of each step that is left of the epoch, until training is done."""
        self.step.model.train()
        self.state.epoch = self.state.step // self.loader.steps_per_epoch + 1
        last = self.state.epoch * self.loader.steps_per_epoch
        with contextlib.closing(self.loader.batches(self.state.step, last)) as steps:
            for batches in steps:
                yield batches
                if self.done:
                    return

    def train_step(self, batches: list[Batch]) -> None:
        """Update the weights, and report, validate or save where it is due."""
        learning_rate = learning_rate_at(self.config.optim, self.clock.reading.progress)
        self.step(batches, learning_rate, self.state.step)
        self.state.step += 1
        epoch_complete = self.state.step == self.state.epoch * self.loader.steps_per_epoch
        save_interval_s = self.config.run.checkpoint_minutes * 60
        self.clock.update(self.state.step, save_interval_s, self.should_stop(), epoch_complete)
        if epoch_complete or self.clock.reading.report_due:
            self._report()
        if epoch_complete:  # it is validated, then saved
            return
        if self.clock.reading.validation_due and not self.done:
            with self._speed_paused():
                self.validate_within_epoch()
        elif self.clock.reading.save_due:
            with self._speed_paused():
                self.save_last()

    def complete_epoch(self) -> None:
        """Validate and save after the last step of an epoch."""
        with self._speed_paused():
            self.validate()
            self.save_epoch()

    @contextlib.contextmanager
    def _speed_paused(self) -> Iterator[None]:
        """Leave validations and checkpoints out of the speed of training; steps that the device has not completed yet
        count as training."""
        if self.step.steps:
            self._finite_loss()
        with self.clock.report_paused():
            yield

    def _report(self) -> None:
        loss = self._finite_loss()
        speed = self.step.steps * self.loader.sub_volumes_per_step / max(self.clock.training_s_since_report, 1e-9)
        learning_rate = learning_rate_at(self.config.optim, self.clock.reading.progress)
        self.reporter.metrics({"train/loss": loss, "lr": learning_rate, "speed": speed})
        self.reporter.progress("training", loss, speed)
        self.clock.mark_reported()
        self.step.reset_loss()

    def _finite_loss(self) -> float:
        """Mean loss since the last report; the only synchronisation of training steps with the device."""
        return finite_mean_loss(self.step, self.loader, self.state.step)

    # --- validate -----------------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """After an epoch, score sub-volumes where it is due, and at the end of training; and whole volumes after the
        configured epochs."""
        if self.task.held_out:
            with self._evaluation_weights():
                if self.validator.has_sub_volumes and (self.clock.reading.validation_due or self.done):
                    self._validate_sub_volumes(may_be_best=True)
                if self.validator.whole_volumes_due(self.state.epoch) and not self.done and self._time_for_volumes():
                    score = self.validator.score_whole_volumes(self._report_segmentation)
                    self.rhythm.record(self.progress.elapsed_s, score.seconds)
                    self._record_whole_volumes(score)
                    self.last_whole_volumes = self.state.step, score
                    self.state.early_stopping.update(score.mean_dice)
        self.state.validated_epoch = self.state.epoch

    def validate_within_epoch(self) -> None:
        """Score sub-volumes between two steps, and write a checkpoint with which these weights can be looked at.

        Under a number of epochs the best checkpoint is chosen after epochs only: it does not depend on the clock.
        """
        if not self.validator.has_sub_volumes:
            return
        with self._evaluation_weights():
            self._validate_sub_volumes(may_be_best=self.progress.budget_s > 0)
        self.clock.update(self.state.step, min(SAVE_INTERVAL_S, self.config.run.checkpoint_minutes * 60))
        if self.clock.reading.save_due or not self.clock.has_saved:
            self.save_last()

    def validate_final(self) -> None:
        """Score whole volumes in every inference mode, but in none in which these weights were scored after the last
        epoch, and choose the mode to predict with."""
        if not self.validator.modes or not self.state.step or self.state.final_validation_step == self.state.step:
            return
        step, last_score = self.last_whole_volumes or (0, None)
        measured = last_score if step == self.state.step else None
        with self._evaluation_weights():
            score, dice = self.validator.compare_modes(self._report_segmentation, measured)
            self.state.inference |= {"mode": score.mode, "dice": dice}
            if score is not measured:
                self._record_whole_volumes(score)
        self.state.final_validation_step = self.state.step

    def _validate_sub_volumes(self, may_be_best: bool) -> None:
        self.reporter.progress("validating")
        started = time.monotonic()
        score = self.validator.score_sub_volumes()
        self.rhythm.expected_s = time.monotonic() - started
        self.rhythm.record(self.progress.elapsed_s, self.rhythm.expected_s)
        values = score.values(self.validator.validation_set.scored)
        self.reporter.metrics(values)
        self.reporter.picture(score.picture)
        if may_be_best and not self.validator.modes:
            self._save_if_best(values[SUB_VOLUME_DICE], SUB_VOLUMES_MEASURED)

    def _record_whole_volumes(self, score: WholeVolumeScore) -> None:
        self.reporter.metrics(score.values())
        if not self.validator.has_sub_volumes:
            self.reporter.picture(score.picture)
        if self._save_if_best(score.mean_dice, WHOLE_VOLUMES_MEASURED):
            ids = [subject.id for subject in self.task.held_out]
            self.best_whole_volumes = Segmented(self.state.epoch, self.state.step, score.mode, score.worst_first(ids))

    def _time_for_volumes(self) -> bool:
        """Whether a time budget leaves time for whole volumes before the end of training, and they keep validations to
        their share of it, which early stopping does not ask for. Equal on all processes."""
        if not self.progress.budget_s:
            return True
        expected_s, elapsed_s = self.validator.expected_s(self.validator.modes[0]), self.progress.elapsed_s
        ends_in_time = elapsed_s + expected_s <= self.progress.budget_s - self.progress.reserve_s
        share_allows = bool(self.config.validation.patience) or self.rhythm.allows(elapsed_s, expected_s)
        (allowed,) = self.task.distributed.broadcast([ends_in_time and share_allows])
        return bool(allowed)

    def _report_segmentation(self, done: int, total: int) -> None:
        self.reporter.progress(f"segmenting held-out volumes {done}/{total}")

    @contextlib.contextmanager
    def _evaluation_weights(self) -> Iterator[None]:
        """While the block runs the model has its averaged weights, if there are any, and the batch statistics of
        rank 0."""
        with averaged_weights(self.task.model, self.step.ema):
            self.task.distributed.broadcast_tensors(self.task.model.buffers())
            yield

    # --- save ---------------------------------------------------------------------------------------------------------

    def save_epoch(self) -> None:
        """Write the checkpoints that are due at the end of an epoch."""
        every = self.config.run.keep_every
        if every and self.state.epoch % every == 0:
            with self._evaluation_weights():
                self._finite_loss()
                self.checkpoints.save_weights(f"epoch-{self.state.epoch:04d}")
        self.clock.update(self.state.step, min(SAVE_INTERVAL_S, self.config.run.checkpoint_minutes * 60))
        if self.state.epoch == 1 or self.clock.reading.save_due:
            self.save_last()

    def save_last(self) -> None:
        """Write all that resuming needs, if it is finite."""
        self._finite_loss()
        self.checkpoints.save_last()
        self.clock.mark_saved()

    def save_unmeasured(self) -> None:
        """Where nothing is held out, write the weights at the end of training as those to predict with: no Dice can
        choose others."""
        if self.task.held_out or not self.state.step:
            return
        with self._evaluation_weights():
            self._finite_loss()
            self.checkpoints.save_weights("best")

    def _save_if_best(self, mean_dice: float, measured_on: str) -> bool:
        """Write the best checkpoint if the score is the best so far; returns whether it is."""
        if math.isnan(mean_dice) or not self.state.is_best(mean_dice, measured_on):
            return False
        self._finite_loss()
        self.state.best = {"epoch": self.state.epoch, "mean_dice": mean_dice, "measured_on": measured_on}
        self.checkpoints.save_weights("best")
        return True

    def report_end(self) -> None:
        """Emit the held-out subjects as the best checkpoint segmented them, then the end of training. Where no whole
        volumes were scored, they remain to be segmented if the time budget has an estimate of the duration."""
        segmented, expected_s = self.best_whole_volumes, self.validator.expected_s(TILES)
        if segmented is None and self.state.best is not None and not self.validator.modes and expected_s:
            unknown = {subject.id: None for subject in self.task.held_out}
            mode = self.state.inference["mode"]
            segmented = Segmented(self.state.epoch, self.state.step, mode, unknown, expected_s)
        if segmented is not None and not self.stopped:
            self.reporter.emit(segmented)
        self.reporter.ended(self.stopped)
