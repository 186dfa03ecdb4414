"""A small trained run with stored predictions, for tests of the quiz; made with the real commands."""

from __future__ import annotations

import contextlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

SUBJECTS = 9  # a third is held out


@dataclass(frozen=True)
class QuizRun:
    """Checkpoints root, data root with the data set ``balls``, and run id; tests must not write to them."""

    root: Path
    data_root: Path
    run: str

    @property
    def data(self) -> Path:
        return self.data_root / "balls"


def make_quiz_run(base: Path, epochs: int = 4) -> QuizRun:
    """Train for seconds, so that the predictions have errors, and segment the held-out subjects."""
    from core.cli import main
    from core.runs.launch import create_run
    from core.training.experiment import train_run
    from tests.support.balls import tiny, write_balls

    root, data = base / "checkpoints", base / "data" / "balls"
    root.mkdir()
    write_balls(data, subjects=SUBJECTS)
    config = tiny(path=str(data), epochs=epochs)
    folder = create_run(root, config, "balls", foreground=True)
    train_run(config, folder, lambda event: None)
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["evaluate", folder.name, str(data), "--keep", "--checkpoints", str(root)]) == 0
    return read_quiz_run(base)


def use_copy(run: QuizRun, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the checkpoints root into a folder, for the program to use beside the data; returns the copy."""
    root = folder / "checkpoints"
    shutil.copytree(run.root, root)
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(root))
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(run.data_root))
    return root


def read_quiz_run(base: Path) -> QuizRun:
    """The run that :func:`make_quiz_run` made in a folder."""
    (run,) = (path.parent.name for path in (base / "checkpoints").glob("*/config.json"))
    return QuizRun(base / "checkpoints", base / "data", run)
