"""Validates a network during training on its held-out subjects, within the time budget of the run."""

from __future__ import annotations

import time

from torch import nn

from core.compute.distributed import DistributedContext
from core.config import TrainConfig
from core.inference.sliding_window import InferenceOptions, foreground_box
from core.losses.build import LossFunction
from core.models import input_channels
from core.training.run_progress import RunProgress
from core.training.validation_budget import SUB_VOLUMES, ValidationBudget, time_tile
from core.training.validation_scores import (
    SubVolumeScore,
    ValidationSet,
    WholeVolumeScore,
    score_sub_volumes,
    score_whole_volumes,
)
from core.types import ProgressCallback

WHOLE_TOLERANCE = 0.002  # largest loss of Dice against tiles with which one pass is chosen


class Validator:
    """Scores the present weights of a model. All processes call it, and all get the same scores.

    Parameters
    ----------
    config : TrainConfig. With precision and left-right mirroring resolved.
    model : Module. On the training device.
    loss : callable. Of logits and target.
    validation_set : ValidationSet. Held-out subjects and sub-volumes.
    progress : RunProgress. Time for the final validation is reserved here.
    distributed : DistributedContext. Processes that share the work.

    Attributes
    ----------
    configured_modes : list of str. Inference modes for whole volumes, the default first; empty if they are not scored.

    Raises
    ------
    ConfigError
        If volumes are to be mirrored, and the mirror image of a region is not a region.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        loss: LossFunction,
        validation_set: ValidationSet,
        progress: RunProgress,
        distributed: DistributedContext,
    ) -> None:
        self.config, self.model, self.loss, self.distributed = config, model, loss, distributed
        self.validation_set = validation_set
        self.configured_modes = self._configured_modes()
        swapped = config.swapped_classes if config.validation.mirror else ()
        self._swapped = validation_set.outputs.swapped_channels(swapped)  # refused here, not after an epoch
        self._budget = ValidationBudget(progress, self.configured_modes, config.validation.overlap)

    @property
    def modes(self) -> list[str]:
        """The configured modes that the time budget allows."""
        return self._budget.modes

    def expected_s(self, kind: str) -> float:
        """Duration of a validation on "sub-volumes", or on whole volumes in a mode; 0 where it is not known."""
        return self._budget.expected_s(kind)

    @property
    def has_sub_volumes(self) -> bool:
        """Whether there are validation sub-volumes."""
        return bool(self.validation_set.locations)

    def reserve_time(self) -> None:
        """Under a time budget, reserve time for the final validation."""
        subjects, size = self.validation_set.subjects, self.validation_set.size
        if not self.config.run.minutes or not len(subjects):
            return
        tile_s = time_tile(self.model, input_channels(self.config, subjects.channels), size, self.config.run.precision)
        (tile_s,) = self.distributed.broadcast([tile_s * (2 if self.config.validation.mirror else 1)])
        # The share of rank 0 is no smaller than that of any other process.
        world_size = self.distributed.world_size
        boxes = [foreground_box(subjects.image(n)) for n in range(0, len(subjects), world_size)]
        self._budget.estimate(tile_s, size, -(-len(self.validation_set.locations) // world_size), boxes)

    def whole_volumes_due(self, epoch: int) -> bool:
        """Whether whole volumes are scored after this epoch."""
        return bool(self.modes) and epoch % self.config.validation.whole_every == 0

    def score_sub_volumes(self) -> SubVolumeScore:
        """Loss and Dice on the validation sub-volumes."""
        started = time.monotonic()
        score = score_sub_volumes(
            self.model,
            self.validation_set,
            self.loss,
            batch_size=self.config.sampling.batch_size,
            precision=self.config.run.precision,
            distributed=self.distributed,
        )
        self._budget.record(SUB_VOLUMES, time.monotonic() - started)
        return score

    def score_whole_volumes(self, progress: ProgressCallback) -> WholeVolumeScore:
        """Dice on whole volumes in the default mode."""
        score = self._score(self.modes[0], progress)
        self._budget.record(score.mode, score.seconds)
        return score

    def compare_modes(
        self, progress: ProgressCallback, measured: WholeVolumeScore | None = None
    ) -> tuple[WholeVolumeScore, dict[str, float]]:
        """Score whole volumes in every mode that the time budget allows.

        Parameters
        ----------
        progress : ProgressCallback.
        measured : WholeVolumeScore, optional. Score of the present weights in one mode, which is not measured again.

        Returns
        -------
        The score of the mode to use from now on (one pass if its Dice is within a tolerance of that of tiles), and the
        mean Dice by mode.
        """
        default, *others = [
            measured if measured is not None and measured.mode == mode else self._score(mode, progress)
            for mode in self.modes
        ]
        best = next((s for s in others if s.mean_dice >= default.mean_dice - WHOLE_TOLERANCE), default)
        return best, {s.mode: round(s.mean_dice, 5) for s in (default, *others)}

    def _score(self, mode: str, progress: ProgressCallback) -> WholeVolumeScore:
        validation, outputs = self.config.validation, self.validation_set.outputs
        options = InferenceOptions(
            mode,
            self.validation_set.size,
            validation.overlap,
            self.config.run.precision,
            validation.mirror,
            self._swapped,
            outputs.regions is not None,
            indicator=self.validation_set.indicator,
        )
        return score_whole_volumes(self.model, self.validation_set, options, progress, self.distributed)

    def _configured_modes(self) -> list[str]:
        if not self.config.validation.whole_every or not len(self.validation_set.subjects):
            return []
        mode = self.config.validation.inference_mode
        return ["tiles", "whole"] if mode == "auto" else [mode]
