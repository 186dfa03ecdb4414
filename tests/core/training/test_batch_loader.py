"""Batches: every step can be reproduced, and resident and streamed subjects give the same batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.config import TrainConfig
from core.events import Event, Ready
from core.sampling.patches import Batch, PatchSampler
from core.training.batch_loader import BatchLoader
from core.training.subject_sets import SubjectSets
from core.training.trainer import fit
from core.types import triple
from tests.support.balls import CLASSES, tiny, training_subjects
from tests.support.training_tasks import checkpoint_tensors, equal_tensors, make_task

CPU = torch.device("cpu")
AUGMENTED = dict(affine=0.7, elastic=0.5, intensity=0.5, noise=0.1, flip=0.5)


@contextlib.contextmanager
def loader(config: TrainConfig, folder: Path, resident_bytes: int = 2**40) -> Iterator[BatchLoader]:
    subjects = training_subjects(4)
    sampler = PatchSampler(subjects, triple(config.sampling.sub_volume), config.sampling, len(CLASSES))
    with SubjectSets(subjects, training_subjects(2, first=50), CPU, resident_bytes, folder) as data:
        yield BatchLoader(config, data.train, sampler)


def equal(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("values", [{}, AUGMENTED, {"accumulate": 3, **AUGMENTED}, {"sub_volume": (32, 32, 32)}])
def test_resident_and_streamed_subjects_give_the_same_batches(tmp_path: Path, values: dict[str, object]) -> None:
    config = tiny(**values)
    with loader(config, tmp_path) as resident, loader(config, tmp_path, resident_bytes=0) as streamed:
        assert streamed.subjects.nbytes == 0 < resident.subjects.nbytes
        steps = list(zip(resident.batches(0, 6), streamed.batches(0, 6), strict=True))
        assert len(steps) == 6
        for one, other in steps:
            assert equal(one, other)


def test_any_step_can_be_reloaded(tmp_path: Path) -> None:
    with loader(tiny(accumulate=2, **AUGMENTED), tmp_path) as batches:
        steps = list(batches.batches(0, 2 * batches.steps_per_epoch))
        assert equal(batches.reload(5), steps[5]) and equal(batches.reload(1), steps[1])
        assert equal(next(batches.batches(5, 6)), steps[5])
        assert not equal(steps[0], steps[batches.steps_per_epoch])
        assert [len(locations) for locations in batches.locations(3)] == [2, 2]


def test_sub_volumes_drawn_once_are_reordered_every_epoch(tmp_path: Path) -> None:
    with loader(tiny(draw_once=True), tmp_path) as batches:
        epochs = [
            [p for step in range(8) for locations in batches.locations(step + 8 * e) for p in locations] for e in (0, 1)
        ]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0], key=str) == sorted(epochs[1], key=str)


@pytest.mark.long
@pytest.mark.slow
def test_streamed_run_equals_resident_run(tmp_path: Path) -> None:
    config = tiny(epochs=1, **AUGMENTED)
    events: list[Event] = []
    for name, resident_bytes in (("resident", 2**40), ("streamed", 0)):
        fit(replace(make_task(tmp_path / name, config), resident_bytes=resident_bytes), events.append)
    resident, streamed = [e.facts["data"] for e in events if isinstance(e, Ready)]
    assert "B on the cpu" in resident and "streamed from disk" in streamed
    assert equal_tensors(
        *(checkpoint_tensors(tmp_path / name / "last.safetensors") for name in ("resident", "streamed"))
    )
    left = {p.name for p in (tmp_path / "streamed").iterdir()}
    assert left == {"best.safetensors", "last.safetensors", "previous.safetensors"}
