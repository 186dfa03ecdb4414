"""What a run is measured on while it trains: its held-out subjects, in sub-volumes and whole, within its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from torch import nn

from core.compute.distributed import DistributedContext
from core.config import TrainConfig
from core.inference.sliding_window import head_box
from core.sampling.patches import Place, Subjects
from core.training.schedule import Schedule
from core.training.validation_budget import ClosingPlan, time_of_a_tile
from core.training.validation_scores import (
    LossFunction,
    SubVolumeScore,
    WholeVolumeScore,
    score_sub_volumes,
    score_whole_volumes,
)
from core.types import Size3

WHOLE_TOLERANCE = 0.002  # Dice that one pass may lose against joined tiles and still be chosen

ProgressCallback = Callable[[int, int], None]


class HeldOut:
    """Measures a network while it is trained. Whoever calls puts the weights to be measured into it before.

    Parameters
    ----------
    config : of the run, with the precision decided.
    model, loss : on the device of the subjects.
    subjects : held out; may be none.
    places : the sub-volumes that every epoch is measured on; may be none.
    size : of a sub-volume in voxels.
    colours : by class index, background first.
    schedule : is told how much of a time budget the last measurement needs.
    team : shares the work; all of it calls, and all of it gets the same scores.

    Attributes
    ----------
    wanted : the ways in which whole volumes are to be segmented, the usual one first; none where they are not.
    modes : those of them that a time budget affords.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        loss: LossFunction,
        subjects: Subjects,
        places: Sequence[Place],
        size: Size3,
        colours: Sequence[str],
        schedule: Schedule,
        team: DistributedContext,
    ) -> None:
        self.config, self.model, self.loss, self.team = config, model, loss, team
        self.subjects, self.places, self.size, self.colours = subjects, places, size, colours
        self.wanted = self._wanted_modes()
        self._closing = ClosingPlan(schedule, self.wanted, config.validation.overlap)

    @property
    def modes(self) -> list[str]:
        return self._closing.modes

    def _wanted_modes(self) -> list[str]:
        if not self.config.validation.whole_every or not len(self.subjects):
            return []
        mode = self.config.validation.inference_mode
        return ["tiles", "whole"] if mode == "auto" else [mode]

    def plan(self) -> None:
        """Under a time budget: keep the time that the last measurement will take."""
        if not self.config.run.minutes or not len(self.subjects):
            return
        tile_s = time_of_a_tile(self.model, self.subjects.channels, self.size, self.config.run.precision)
        (tile_s,) = self.team.broadcast([tile_s * (2 if self.config.validation.mirror else 1)])
        # The leader's part of the work is no smaller than another's.
        heads = [head_box(self.subjects.image(n)) for n in range(0, len(self.subjects), self.team.size)]
        places = -(-len(self.places) // self.team.size)
        self._closing.estimate(tile_s, self.size, places, heads)

    def whole_due(self, epoch: int) -> bool:
        """Whether whole volumes are measured after this epoch."""
        return bool(self.modes) and epoch % self.config.validation.whole_every == 0

    def score_sub_volumes(self) -> SubVolumeScore:
        began = time.monotonic()
        score = score_sub_volumes(
            self.model, self.subjects, self.places, self.size, loss=self.loss, classes=len(self.colours),
            colours=self.colours, batch_size=self.config.sampling.batch_size, precision=self.config.run.precision,
            team=self.team,
        )  # fmt: skip
        self._closing.took("sub-volumes", time.monotonic() - began)
        return score

    def score_whole(self, progress: ProgressCallback) -> WholeVolumeScore:
        """In the usual way."""
        score = self._score(self.modes[0], progress)
        self._closing.took(score.mode, score.seconds)
        return score

    def score_all_ways(self, progress: ProgressCallback) -> tuple[WholeVolumeScore, dict[str, float]]:
        """In every way that there was time for: the score of the one to segment with from now on, and the mean Dice of
        each by its name. One pass is chosen over joined tiles where it is hardly worse."""
        usual, *others = [self._score(mode, progress) for mode in self.modes]
        chosen = next((s for s in others if s.mean_dice >= usual.mean_dice - WHOLE_TOLERANCE), usual)
        return chosen, {s.mode: round(s.mean_dice, 5) for s in (usual, *others)}

    def _score(self, mode: str, progress: ProgressCallback) -> WholeVolumeScore:
        return score_whole_volumes(
            self.model, self.subjects, mode=mode, tile=self.size, overlap=self.config.validation.overlap,
            precision=self.config.run.precision, mirror=self.config.validation.mirror, classes=len(self.colours),
            progress=progress, team=self.team,
        )  # fmt: skip
