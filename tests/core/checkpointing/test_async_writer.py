"""Checkpoints are copied at once and written beside training; what goes wrong is told in the trainer's thread."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from core.checkpointing import async_writer
from core.checkpointing import checkpoint as files
from core.checkpointing.async_writer import CheckpointWriter
from core.checkpointing.checkpoint import Checkpoint, load
from core.errors import CheckpointError
from tests.support.balls import untrained_run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    name = untrained_run(tmp_path, "one", ("M0",))
    return load(tmp_path / name / "last.safetensors")


def test_the_copy_is_of_the_moment(tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write, told = threading.Event(), list[str]()
    honest = files.save

    def late(path: Path, given: Checkpoint, previous: Path | None) -> None:
        assert may_write.wait(30)
        honest(path, given, previous)

    monkeypatch.setattr(async_writer, "save", late)
    before = {k: v.clone() for k, v in checkpoint.model.items()}
    with CheckpointWriter() as writer:
        writer.write(tmp_path / "a.safetensors", checkpoint, lambda: told.append("a"))
        for value in checkpoint.model.values():
            value.zero_()
        writer.poll()
        assert not told, "it is not written yet"
        may_write.set()
    assert told == ["a"]
    assert all(torch.equal(v, before[k]) for k, v in load(tmp_path / "a.safetensors").model.items())


def test_every_checkpoint_is_written_in_order(tmp_path: Path, checkpoint: Checkpoint) -> None:
    told = list[int]()
    with CheckpointWriter() as writer:
        for number in range(5):
            next(iter(checkpoint.model.values())).fill_(number)
            writer.write(tmp_path / "a.safetensors", checkpoint, lambda n=number: told.append(n))  # type: ignore[misc]
        writer.flush()
        assert told == list(range(5))
    assert (next(iter(load(tmp_path / "a.safetensors").model.values())) == 4).all()


def test_what_cannot_be_written_is_raised_where_training_runs(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="cannot write"), CheckpointWriter() as writer:
        writer.write(tmp_path / "missing" / "a.safetensors", checkpoint, lambda: pytest.fail("it was not written"))
    with CheckpointWriter() as writer:
        writer.write(tmp_path / "missing" / "a.safetensors", checkpoint, lambda: pytest.fail("it was not written"))
        with pytest.raises(CheckpointError, match="cannot write"):
            writer.flush()
        writer.write(tmp_path / "a.safetensors", checkpoint, lambda: None)
    assert load(tmp_path / "a.safetensors")


def test_an_error_of_training_is_not_hidden_and_what_was_given_is_written(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    with pytest.raises(ValueError, match="of training"), CheckpointWriter() as writer:
        writer.write(tmp_path / "a.safetensors", checkpoint, lambda: None)
        raise ValueError("an error of training")
    assert load(tmp_path / "a.safetensors")
    assert not [t for t in threading.enumerate() if t.name == "checkpoints"]
