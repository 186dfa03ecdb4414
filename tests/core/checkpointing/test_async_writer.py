"""Background writing: tensors are copied at once, writes keep their order, errors reach the caller's thread."""

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


def test_later_changes_of_the_tensors_are_not_written(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write, written = threading.Event(), list[str]()
    save = files.save

    def delayed_save(path: Path, given: Checkpoint, previous: Path | None) -> None:
        assert may_write.wait(30)
        save(path, given, previous)

    monkeypatch.setattr(async_writer, "save", delayed_save)
    before = {k: v.clone() for k, v in checkpoint.model.items()}
    with CheckpointWriter() as writer:
        writer.write(tmp_path / "a.safetensors", checkpoint, lambda: written.append("a"))
        for value in checkpoint.model.values():
            value.zero_()
        writer.poll()
        assert not written
        may_write.set()
    assert written == ["a"]
    assert all(torch.equal(v, before[k]) for k, v in load(tmp_path / "a.safetensors").model.items())


def test_checkpoints_are_written_in_order(tmp_path: Path, checkpoint: Checkpoint) -> None:
    written = list[int]()
    with CheckpointWriter() as writer:
        for number in range(5):
            next(iter(checkpoint.model.values())).fill_(number)
            writer.write(tmp_path / "a.safetensors", checkpoint, lambda n=number: written.append(n))  # type: ignore[misc]
        writer.flush()
        assert written == list(range(5))
    assert (next(iter(load(tmp_path / "a.safetensors").model.values())) == 4).all()


def test_write_error_is_raised_in_the_callers_thread(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="cannot write"), CheckpointWriter() as writer:
        writer.write(tmp_path / "missing" / "a.safetensors", checkpoint, lambda: pytest.fail("not written"))
    with CheckpointWriter() as writer:
        writer.write(tmp_path / "missing" / "a.safetensors", checkpoint, lambda: pytest.fail("not written"))
        with pytest.raises(CheckpointError, match="cannot write"):
            writer.flush()
        writer.write(tmp_path / "a.safetensors", checkpoint, lambda: None)
    assert load(tmp_path / "a.safetensors")


def test_error_of_the_caller_is_raised_and_pending_writes_complete(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="of training"), CheckpointWriter() as writer:
        writer.write(tmp_path / "a.safetensors", checkpoint, lambda: None)
        raise ValueError("an error of training")
    assert load(tmp_path / "a.safetensors")
    assert not [t for t in threading.enumerate() if t.name == "checkpoints"]
