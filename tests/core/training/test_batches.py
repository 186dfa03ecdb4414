"""What a run trains on: every step can be drawn again, and it does not matter where the subjects lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.checkpointing.checkpoint import load
from core.config import TrainConfig
from core.events import Event, Ready
from core.training.batches import Feed
from core.training.trainer import fit
from tests.core.training.test_trainer import same, task, tensors
from tests.support.balls import CLASSES, tiny, training_subjects

CPU = torch.device("cpu")
EVERYTHING = dict(affine=0.7, elastic=0.5, intensity=0.5, noise=0.1, flip=0.5)


def feed(config: TrainConfig, folder: Path, resident_bytes: int = 2**40) -> Feed:
    return Feed(config, training_subjects(4), training_subjects(2, first=50), len(CLASSES), CPU, resident_bytes, folder)


def equal(one: list[tuple[torch.Tensor, torch.Tensor]], other: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"accumulate": 3, **EVERYTHING}, {"sub_volume": (32, 32, 32)}])
def test_resident_and_streamed_subjects_give_the_same_batches(tmp_path: Path, values: dict[str, object]) -> None:
    config = tiny(**values)
    with feed(config, tmp_path) as resident, feed(config, tmp_path, resident_bytes=0) as streamed:
        assert streamed.subjects.nbytes == 0 < resident.subjects.nbytes
        steps = list(zip(resident.batches(0, 6), streamed.batches(0, 6), strict=True))
        assert len(steps) == 6
        for one, other in steps:
            assert equal(one, other)


def test_a_step_can_be_drawn_again(tmp_path: Path) -> None:
    with feed(tiny(accumulate=2, **EVERYTHING), tmp_path) as it:
        steps = list(it.batches(0, 2 * it.steps_per_epoch))
        assert equal(it.again(5), steps[5]) and equal(it.again(1), steps[1])
        assert equal(next(it.batches(5, 6)), steps[5])
        assert not equal(steps[0], steps[it.steps_per_epoch])
        assert [len(places) for places in it.places(3)] == [2, 2]


def test_sub_volumes_that_are_drawn_once_come_back_in_another_order(tmp_path: Path) -> None:
    with feed(tiny(draw_once=True), tmp_path) as it:
        epochs = [[p for step in range(8) for places in it.places(step + 8 * e) for p in places] for e in (0, 1)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0], key=str) == sorted(epochs[1], key=str)


@pytest.mark.slow
def test_a_streamed_run_is_the_resident_one_and_says_where_its_data_is(tmp_path: Path) -> None:
    config = tiny(epochs=2, **EVERYTHING)
    events: list[Event] = []
    for name, room in (("resident", 2**40), ("streamed", 0)):
        (tmp_path / name).mkdir()
        fit(replace(task(tmp_path / name, config), resident_bytes=room), events.append)
    resident, streamed = [e.facts["data"] for e in events if isinstance(e, Ready)]
    assert "MB on the cpu" in resident and "streamed from disk" in streamed
    assert same(*(tensors(tmp_path / name / "last.safetensors") for name in ("resident", "streamed")))
    left = {p.name for p in (tmp_path / "streamed").iterdir()}
    assert left == {"best.safetensors", "last.safetensors", "previous.safetensors"}


def test_a_batch_that_is_not_finite_is_named(tmp_path: Path) -> None:
    from core.training.trainer import TrainingFailedError

    subjects = training_subjects(4)
    subjects[2].image[:] = float("nan")
    with pytest.raises(
        TrainingFailedError, match=r"at step \d+ \(epoch 1\): sub-volume at voxel .* of ball-2 holds values"
    ):
        fit(task(tmp_path, tiny(epochs=1), subjects), lambda event: None)
    assert not (tmp_path / "last.safetensors").exists() or load(tmp_path / "last.safetensors")
