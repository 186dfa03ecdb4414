"""Loads the batches of every training step: draws sub-volumes, cuts them from the subjects and augments them.

Every draw is a function of the seed and the step, so any step can be reproduced: by a resumed run, or to diagnose a
non-finite loss.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from core.augmentation.augmenter import AugmentationParams, Augmenter
from core.compute.distributed import SINGLE_PROCESS, DistributedContext
from core.config import TrainConfig
from core.models.indicator import with_indicator
from core.sampling.patches import Batch, PatchLocation, PatchSampler, Subjects
from core.sampling.streaming import StreamedSubjects, prefetch

SAMPLING_STREAM, AUGMENTATION_STREAM, VALIDATION_STREAM = range(3)  # independent streams of random numbers
PREFETCH_STEPS = 2  # steps whose sub-volumes a thread cuts in advance, for streamed subjects

_Region: TypeAlias = tuple[AugmentationParams, Tensor, Tensor]  # parameters to augment an image and a label with


def seeded_generator(seed: int, stream: int, index: int) -> torch.Generator:
    """A CPU generator for one step or epoch of a random stream; independent of all earlier draws."""
    sequence = np.random.SeedSequence([seed, stream, index])
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))


class BatchLoader:
    """Augmented batches of sub-volumes on the training device.

    Parameters
    ----------
    config : TrainConfig. With the sub-volume size resolved.
    subjects : Subjects. Training subjects, on the device or streamed to it.
    sampler : PatchSampler. Draws the locations of sub-volumes in the subjects.
    distributed : DistributedContext. Processes that share the batches of a step.

    Attributes
    ----------
    sub_volumes_per_step : int. Sub-volumes of one optimizer step, over all processes.
    steps_per_epoch : int. Optimizer steps.
    """

    def __init__(
        self,
        config: TrainConfig,
        subjects: Subjects,
        sampler: PatchSampler,
        distributed: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        self.config = config
        self.subjects = subjects
        self.sampler = sampler
        self.augmenter = Augmenter(config.augment, sampler.size, config.swapped_classes)
        self.distributed = distributed
        self.sub_volumes_per_step = config.sub_volumes_per_step
        self.steps_per_epoch = math.ceil(config.sampling.samples_train / self.sub_volumes_per_step)
        self._epoch_cache: tuple[int, list[PatchLocation]] = (-1, [])

    def locations(self, step: int) -> list[list[PatchLocation]]:
        """Locations of the sub-volumes of a step (counted from 0), by batch, ordered by the rank of the process."""
        epoch_locations = self._epoch_locations(step // self.steps_per_epoch + 1)
        first = step % self.steps_per_epoch * self.sub_volumes_per_step
        batch_size = self.config.sampling.batch_size
        return [
            epoch_locations[n : n + batch_size] for n in range(first, first + self.sub_volumes_per_step, batch_size)
        ]

    def batches(self, first: int, last: int) -> Generator[list[Batch], None, None]:
        """This process's batches of the steps ``first`` to ``last - 1``. Close the iterator to stop early.

        Yields
        ------
        list of (image, label). One per accumulated batch: image float32, shape (batch, channel, i, j, k), with the
        channels of an indicator where the network has one; label uint8, shape (batch, i, j, k). For streamed subjects a
        thread prefetches the sub-volumes of the next steps.
        """
        steps = range(first, last)
        streamed = isinstance(self.subjects, StreamedSubjects)
        regions = (
            prefetch(steps, self._own_regions, PREFETCH_STEPS)
            if streamed
            else (self._own_regions(step) for step in steps)
        )
        with contextlib.closing(regions):
            for step_regions in regions:
                yield self._augment(step_regions)

    def reload(self, step: int) -> list[Batch]:
        """All processes' batches of one step."""
        return self._augment(self._crop(self._draw_params(step)))

    def _augment(self, regions: list[_Region]) -> list[Batch]:
        batches = []
        for params, region, region_label in regions:
            image, label = self.augmenter.apply(region, region_label, params)
            if self.config.data.modality_indicator:
                image = with_indicator(image, params.kept)
            batches.append((image, label))
        return batches

    def _draw_params(self, step: int) -> list[AugmentationParams]:
        """Augmentation parameters of each batch of a step, over all processes; independent of their number."""
        generator = seeded_generator(self.config.run.seed, AUGMENTATION_STREAM, step)
        return [self.augmenter.draw_for(self.subjects, locations, generator) for locations in self.locations(step)]

    def _own_regions(self, step: int) -> list[_Region]:
        count = self.config.optim.accumulate
        return self._crop(self._draw_params(step)[self.distributed.rank * count :][:count])

    def _crop(self, batches: list[AugmentationParams]) -> list[_Region]:
        return [(params, *self.subjects.crop(params.locations, params.region)) for params in batches]

    def _epoch_locations(self, epoch: int) -> list[PatchLocation]:
        """Locations of an epoch: new ones, or with ``draw_once`` those of the first epoch in another order."""
        if self._epoch_cache[0] != epoch:
            generator = seeded_generator(self.config.run.seed, SAMPLING_STREAM, epoch)
            count = self.steps_per_epoch * self.sub_volumes_per_step
            if self.config.sampling.draw_once:
                locations = self.sampler.draw(count, seeded_generator(self.config.run.seed, SAMPLING_STREAM, 0))
                locations = [locations[n] for n in torch.randperm(count, generator=generator).tolist()]
            else:
                locations = self.sampler.draw(count, generator)
            self._epoch_cache = (epoch, locations)
        return self._epoch_cache[1]
