"""Fallback from a damaged last checkpoint to the previous one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.checkpointing import checkpoint as module
from core.checkpointing.checkpoint import Checkpoint, load, load_latest, save
from core.checkpointing.metadata import LAST, PREVIOUS
from core.errors import CheckpointError
from tests.support.balls import untrained_run
from tests.support.damages import cut_off, emptied, garbage, one_bit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of a run that has saved steps 1 and 2."""
    checkpoint = load(tmp_path / untrained_run(tmp_path, "one", ("M0",)) / LAST)
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (1, 2):
        save_step(folder, checkpoint, step)
    return folder


def save_step(folder: Path, checkpoint: Checkpoint, step: int) -> None:
    metadata = replace(checkpoint.metadata, progress={"step": step})
    save(folder / LAST, replace(checkpoint, metadata=metadata), folder / PREVIOUS)


def step_of(path: Path) -> int:
    return int(load(path).metadata.progress["step"])


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = (cut_off, emptied, garbage, one_bit, remove)


def test_last_and_previous_checkpoint_are_kept(folder: Path) -> None:
    assert (step_of(folder / LAST), step_of(folder / PREVIOUS)) == (2, 1)
    save_step(folder, load(folder / LAST), 3)
    assert (step_of(folder / LAST), step_of(folder / PREVIOUS)) == (3, 2)
    assert sorted(p.name for p in folder.iterdir()) == [LAST, PREVIOUS]
    checkpoint, damage = load_latest(folder)
    assert checkpoint.metadata.progress["step"] == 3 and not damage


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_previous_checkpoint_is_loaded_where_the_last_is_damaged(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder / LAST)
    with pytest.raises(CheckpointError):
        load(folder / LAST)
    checkpoint, reported = load_latest(folder)
    assert checkpoint.metadata.progress["step"] == 1 and str(folder / LAST) in reported
    damage(folder / PREVIOUS)
    what = "no previous one" if damage is remove else str(folder / PREVIOUS)
    with pytest.raises(CheckpointError, match=f"{folder / LAST}.*{what}"):
        load_latest(folder)


def test_damaged_checkpoint_never_becomes_the_previous_one(folder: Path) -> None:
    """After a fallback the next save must not replace the intact file by the damaged one."""
    one_bit(folder / LAST)
    checkpoint, _ = load_latest(folder)
    save_step(folder, checkpoint, 2)
    assert (step_of(folder / LAST), step_of(folder / PREVIOUS)) == (2, 1) and (folder / "damaged.safetensors").exists()
    one_bit(folder / LAST)
    assert load_latest(folder)[0].metadata.progress["step"] == 1


@pytest.mark.parametrize("call", ["link", "replace"])
@pytest.mark.parametrize("number", [0, 1])
def test_kill_between_link_and_replace_leaves_a_checkpoint(
    folder: Path, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, original, calls = load(folder / LAST), getattr(os, call), list[int]()

    def interrupted(*arguments: Path) -> None:
        calls.append(0)
        if len(calls) > number:
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(os, call, interrupted)
    try:
        save_step(folder, checkpoint, 3)
    except KeyboardInterrupt:
        assert step_of(folder / LAST) == 2, "before the rename"
        assert step_of(folder / PREVIOUS) in (1, 2)
    else:
        assert call == "link" and number == 1 and step_of(folder / LAST) == 3


def test_file_system_without_hard_links(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Path) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    save_step(folder, load(folder / LAST), 3)
    assert (step_of(folder / LAST), step_of(folder / PREVIOUS)) == (3, 2)


def test_bytes_that_read_back_differently_are_detected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, checkpoint = os.fsync, load(folder / LAST)

    def corrupt(handle: int) -> None:
        fsync(handle)
        os.pwrite(os.open(f"/proc/self/fd/{handle}", os.O_WRONLY), b"\0" * 64, 4096)

    monkeypatch.setattr(os, "fsync", corrupt)
    with pytest.raises(CheckpointError, match=str(folder / LAST)):
        save_step(folder, checkpoint, 3)
    monkeypatch.undo()
    assert (step_of(folder / LAST), step_of(folder / PREVIOUS)) == (2, 1)
    assert sorted(p.name for p in folder.iterdir()) == [LAST, PREVIOUS]


def test_file_without_digest_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_with_digest", lambda data: data)
    save_step(folder, load(folder / LAST), 3)
    assert step_of(folder / LAST) == 3
