"""What a run trains on, step by step: where the sub-volumes of every step lie, and what augmentation makes of them.

All of it is a function of the seed and of the step, so a step can be drawn again: by a run that is resumed, or to find
out what went wrong in it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from core.augmentation.augmenter import Augmenter, Draw
from core.compute.distributed import ALONE, DistributedContext
from core.config import TrainConfig
from core.formatting import format_bytes
from core.sampling.patches import Batch, PatchSampler, Place
from core.sampling.streaming import StreamedSubjects, ahead, hold
from core.types import TrainingSubject, triple

PLACES, AUGMENTATION, VALIDATION = range(3)  # streams of random numbers
AHEAD = 2  # steps whose sub-volumes are cut before they are needed, where data is streamed


def generator(seed: int, stream: int, number: int) -> torch.Generator:
    """A CPU generator for one step or epoch: the same for the same seed, whatever happened before."""
    sequence = np.random.SeedSequence([seed, stream, number])
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))


class Feed:
    """Batches of sub-volumes on the training device. A context manager: leaving it lets go of what it holds on disk.

    Parameters
    ----------
    config : with the sub-volume decided.
    train, held_out : subjects, normalised, with the same channels.
    classes : with the background.
    device : that is to train.
    resident_bytes : most that the subjects may take on the device; those that do not fit are streamed from disk.
    folder : for the file that they are streamed from.
    team : of processes, as many as the configuration has devices; each gets its own of the batches that make a step.

    Attributes
    ----------
    subjects, held_out : as :func:`core.sampling.streaming.hold` has them.
    per_step : sub-volumes that make one update, over the whole team.
    steps_per_epoch : updates.
    """

    def __init__(
        self,
        config: TrainConfig,
        train: Sequence[TrainingSubject],
        held_out: Sequence[TrainingSubject],
        classes: int,
        device: torch.device,
        resident_bytes: int,
        folder: Path,
        team: DistributedContext = ALONE,
    ) -> None:
        size = triple(config.sampling.sub_volume)
        self.config = config
        self.device = device
        self.subjects = hold(train, device, resident_bytes, folder)
        self.held_out = hold(held_out, device, resident_bytes - self.subjects.nbytes, folder)
        self.sampler = PatchSampler(train, size, config.sampling, classes)
        self.augment = Augmenter(config.augment, size)
        self.team = team
        self.per_step = config.sub_volumes_per_step
        self.steps_per_epoch = math.ceil(config.sampling.samples_train / self.per_step)
        self._epoch: tuple[int, list[Place]] = (-1, [])

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for held in (self.subjects, self.held_out):
            held.close()

    @property
    def memory_summary(self) -> str:
        """One sentence for people: how much lies where."""
        parts = []
        there = self.subjects.nbytes + self.held_out.nbytes
        if there or not self._streamed:
            parts.append(f"{format_bytes(there)} on the {self.device.type}")
        if self._streamed:
            parts.append(f"{format_bytes(sum(held.stored_bytes for held in self._streamed))} streamed from disk")
        return ", ".join(parts)

    def places(self, step: int) -> list[list[Place]]:
        """Where the sub-volumes of a step (counted from 0) lie, by batch: those of the first process of the team, then
        those of the second."""
        every = self._places_of(step // self.steps_per_epoch + 1)
        first = step % self.steps_per_epoch * self.per_step
        batch = self.config.sampling.batch_size
        return [every[n : n + batch] for n in range(first, first + self.per_step, batch)]

    def batches(self, first: int, last: int) -> Iterator[list[Batch]]:
        """This process's batches of the steps from ``first`` up to but without ``last``; close it to stop early.

        Image float32 (batch, channel, i, j, k) and label uint8 (batch, i, j, k). Where the subjects are streamed, a
        thread cuts the sub-volumes of the next steps meanwhile.
        """
        steps = range(first, last)
        streamed = isinstance(self.subjects, StreamedSubjects)
        cut = ahead(steps, self._own, AHEAD) if streamed else (self._own(step) for step in steps)
        with contextlib.closing(cut):
            for regions in cut:
                yield [self.augment.apply(image, label, draw) for draw, image, label in regions]

    def again(self, step: int) -> list[Batch]:
        """The batches of one step, the whole team's."""
        return [self.augment.apply(image, label, draw) for draw, image, label in self._cut(self._draws(step))]

    @property
    def _streamed(self) -> list[StreamedSubjects]:
        return [held for held in (self.subjects, self.held_out) if isinstance(held, StreamedSubjects)]

    def _draws(self, step: int) -> list[Draw]:
        """Every random decision of a step, for the whole team: it does not depend on how many they are."""
        chance = generator(self.config.run.seed, AUGMENTATION, step)
        return [self.augment.draw(places, self.subjects.channels, chance) for places in self.places(step)]

    def _own(self, step: int) -> list[tuple[Draw, Tensor, Tensor]]:
        count = self.config.optim.accumulate
        return self._cut(self._draws(step)[self.team.rank * count :][:count])

    def _cut(self, draws: list[Draw]) -> list[tuple[Draw, Tensor, Tensor]]:
        """The regions that draws need."""
        return [(draw, *self.subjects.crop(draw.places, draw.region)) for draw in draws]

    def _places_of(self, epoch: int) -> list[Place]:
        """The epoch's sub-volumes: new ones, or the first epoch's in another order."""
        if self._epoch[0] != epoch:
            chance = generator(self.config.run.seed, PLACES, epoch)
            count = self.steps_per_epoch * self.per_step
            if self.config.sampling.draw_once:
                places = self.sampler.draw(count, generator(self.config.run.seed, PLACES, 0))
                places = [places[n] for n in torch.randperm(count, generator=chance).tolist()]
            else:
                places = self.sampler.draw(count, chance)
            self._epoch = (epoch, places)
        return self._epoch[1]
