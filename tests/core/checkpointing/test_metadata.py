"""Metadata of a checkpoint, read in a process without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.checkpointing.checkpoint import load, shared_metadata
from core.checkpointing.metadata import read_metadata
from core.paths import project_root

if TYPE_CHECKING:
    from tests.core.conftest import BallRun

PROGRAM = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from core.checkpointing.metadata import read_metadata
from core.errors import CheckpointError

metadata = read_metadata(Path(sys.argv[1]))
channels = metadata.train_config.model.channels
print(metadata.label_space.names, channels, metadata.progress["epoch"], metadata.split["val"])
Path(sys.argv[2]).write_bytes(Path(sys.argv[1]).read_bytes()[:-1])
try:
    read_metadata(Path(sys.argv[2]))
except CheckpointError as error:
    print(error)
"""


@pytest.mark.slow
def test_metadata_are_read_without_torch(ball_run: BallRun, tmp_path: Path) -> None:
    damaged = tmp_path / "cut.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ball_run.checkpoint), str(damaged)],
        cwd=project_root(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    metadata = load(ball_run.checkpoint).metadata
    printed, refused = done.stdout.splitlines()
    assert printed == f"('background', 'bright', 'dark') (8, 16) 16 {metadata.split['val']}"
    assert refused.startswith(str(damaged))


def test_read_metadata_equals_the_loaded_checkpoints(ball_run: BallRun) -> None:
    assert read_metadata(ball_run.checkpoint) == load(ball_run.checkpoint).metadata


def test_cases_of_the_training_are_those_of_the_data_that_a_network_was_trained_on(
    ball_run: BallRun, tmp_path: Path
) -> None:
    metadata = read_metadata(ball_run.checkpoint)
    (trained, *_), (held_out, *_) = metadata.split["train"], metadata.split["val"]
    link = tmp_path / "link"
    link.symlink_to(ball_run.data)
    for folder in (ball_run.data, link):
        assert metadata.is_training_data(folder)
        assert metadata.seen_in_training(folder, [held_out, trained]) == [trained]
    assert not metadata.is_training_data(tmp_path)
    assert metadata.seen_in_training(tmp_path, [held_out, trained]) == []
    assert not replace(metadata, dataset={}).is_training_data(Path())


def test_an_exported_network_may_have_been_trained_on_subjects_of_the_same_name(
    ball_run: BallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file does not name the folder, not even as the working directory, but the ids of all training subjects."""
    metadata = read_metadata(ball_run.checkpoint)
    (trained, *_), (held_out, *_) = metadata.split["train"], metadata.split["val"]
    tuned = replace(metadata, dataset={**metadata.dataset, "trained_on": {"/elsewhere": [held_out]}})
    assert metadata.may_be_seen_in_training(ball_run.data, [held_out, trained]) == []
    monkeypatch.chdir(ball_run.data)
    earlier = replace(metadata, dataset={"name": "Balls"})  # as exported before ids of initial networks were kept
    for exported, found in (
        (shared_metadata(metadata), [trained]),
        (earlier, [trained]),
        (shared_metadata(tuned), [held_out, trained]),
        (shared_metadata(shared_metadata(tuned)), [held_out, trained]),
    ):
        assert exported.seen_in_training(ball_run.data, [held_out, trained]) == []
        assert exported.may_be_seen_in_training(ball_run.data, [held_out, trained]) == found
        assert not exported.is_training_data(ball_run.data)
        assert str(ball_run.data) not in str(exported.dataset)
