"""What is in a checkpoint, read where there is no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core.checkpointing import checkpoint, metadata
from core.paths import project_root

if TYPE_CHECKING:
    from tests.core.conftest import BallRun

ROOT = project_root()

PROGRAM = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from core.checkpointing.metadata import read_description
from core.errors import CheckpointError

about = read_description(Path(sys.argv[1]))
print(about.label_space.names, about.train_config.model.channels, about.progress["epoch"], about.split["val"])
Path(sys.argv[2]).write_bytes(Path(sys.argv[1]).read_bytes()[:-1])
try:
    read_description(Path(sys.argv[2]))
except CheckpointError as error:
    print(error)
"""


def test_a_description_is_read_without_torch(ball_run: BallRun, tmp_path: Path) -> None:
    damaged = tmp_path / "cut.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ball_run.checkpoint), str(damaged)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    about = checkpoint.load(ball_run.checkpoint).description
    told, refused = done.stdout.splitlines()
    assert told == f"('background', 'bright', 'dark') (8, 16) 16 {about.split['val']}"
    assert refused.startswith(f"{damaged} is not a checkpoint (expected safetensors), or it is damaged")


def test_both_modules_give_the_same(ball_run: BallRun) -> None:
    assert checkpoint.Description is metadata.Description
    assert metadata.read_description(ball_run.checkpoint) == checkpoint.load(ball_run.checkpoint).description
