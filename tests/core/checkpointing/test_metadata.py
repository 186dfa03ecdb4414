"""Metadata of a checkpoint, read in a process without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.checkpointing.checkpoint import load
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
