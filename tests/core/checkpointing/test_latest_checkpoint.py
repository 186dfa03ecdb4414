"""A run has two checkpoints to go on from; a damaged last one is noticed, and the one before takes its place."""

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
    """Of a run that has saved steps 1 and 2."""
    checkpoint = load(tmp_path / untrained_run(tmp_path, "one", ("M0",)) / LAST)
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (1, 2):
        save_step(folder, checkpoint, step)
    return folder


def save_step(folder: Path, checkpoint: Checkpoint, step: int) -> None:
    about = replace(checkpoint.description, progress={"step": step})
    save(folder / LAST, replace(checkpoint, description=about), folder / PREVIOUS)


def step_of(path: Path) -> int:
    return int(load(path).description.progress["step"])


def gone(path: Path) -> None:
    path.unlink()


DAMAGES = (cut_off, emptied, garbage, one_bit, gone)


def test_two_are_kept(folder: Path) -> None:
    assert (step_of(folder / LAST), step_of(folder / PREVIOUS)) == (2, 1)
    save_step(folder, load(folder / LAST), 3)
    assert (step_of(folder / LAST), step_of(folder / PREVIOUS)) == (3, 2)
    assert sorted(p.name for p in folder.iterdir()) == [LAST, PREVIOUS]
    found, damage = load_latest(folder)
    assert found.description.progress["step"] == 3 and not damage


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_one_before_takes_the_place_of_a_damaged_one(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder / LAST)
    with pytest.raises(CheckpointError):
        load(folder / LAST)
    found, told = load_latest(folder)
    assert found.description.progress["step"] == 1 and str(folder / LAST) in told
    damage(folder / PREVIOUS)
    what = "there is none before" if damage is gone else "the one before neither"
    with pytest.raises(CheckpointError, match=f"the last checkpoint cannot be read: .*{what}"):
        load_latest(folder)


def test_a_damaged_one_is_never_kept_for_good(folder: Path) -> None:
    """After a fall back the next save must not push the good one out in favour of the damaged one."""
    one_bit(folder / LAST)
    found, _ = load_latest(folder)
    save_step(folder, found, 2)
    assert (step_of(folder / LAST), step_of(folder / PREVIOUS)) == (2, 1) and (folder / "damaged.safetensors").exists()
    one_bit(folder / LAST)
    assert load_latest(folder)[0].description.progress["step"] == 1


@pytest.mark.parametrize("call", ["link", "replace"])
@pytest.mark.parametrize("number", [0, 1])
def test_killed_between_the_files_there_is_always_one(
    folder: Path, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, honest, calls = load(folder / LAST), getattr(os, call), list[int]()

    def killed(*arguments: Path) -> None:
        calls.append(0)
        if len(calls) > number:
            raise KeyboardInterrupt
        honest(*arguments)

    monkeypatch.setattr(os, call, killed)
    try:
        save_step(folder, checkpoint, 3)
    except KeyboardInterrupt:
        assert step_of(folder / LAST) == 2, "the new one has not got its name yet"
        assert step_of(folder / PREVIOUS) in (1, 2)
    else:
        assert call == "link" and number == 1 and step_of(folder / LAST) == 3


def test_a_file_system_without_second_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Path) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    save_step(folder, load(folder / LAST), 3)
    assert (step_of(folder / LAST), step_of(folder / PREVIOUS)) == (3, 2)


def test_a_disk_that_forgets_is_noticed_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, checkpoint = os.fsync, load(folder / LAST)

    def forget(handle: int) -> None:
        honest(handle)
        os.pwrite(os.open(f"/proc/self/fd/{handle}", os.O_WRONLY), b"\0" * 64, 4096)

    monkeypatch.setattr(os, "fsync", forget)
    with pytest.raises(CheckpointError, match="the disk gives back something else than was written"):
        save_step(folder, checkpoint, 3)
    monkeypatch.undo()
    assert (step_of(folder / LAST), step_of(folder / PREVIOUS)) == (2, 1)
    assert sorted(p.name for p in folder.iterdir()) == [LAST, PREVIOUS]


def test_files_of_before_had_no_digest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_with_digest", lambda data: data)
    save_step(folder, load(folder / LAST), 3)
    assert step_of(folder / LAST) == 3
