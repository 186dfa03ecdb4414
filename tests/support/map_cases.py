"""A kept segmentation by a trained network, of which maps are made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.checkpointing.checkpoint import load, save
from core.checkpointing.metadata import read_metadata
from core.cli import main
from core.runs.kept_maps import kinds_of, map_file
from core.runs.predictions import Prediction, read_predictions
from tests.support.volume_files import load as load_image

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


class Case:
    """A copy of a trained network, and its kept prediction of a subject that is stored as LAS."""

    def __init__(self, folder: Path, ball_run: BallRun, *options: str) -> None:
        self.root, self.data = folder, ball_run.data
        self.checkpoint = folder / "elsewhere" / "model.safetensors"
        self.checkpoint.parent.mkdir()
        save(self.checkpoint, load(ball_run.checkpoint))
        self.evaluate("ball_1", *options)

    def command(self, name: str, *options: str) -> int:
        return main([name, str(self.checkpoint), str(self.data), f"--checkpoints={self.root}", *options])

    def evaluate(self, subject: str, *options: str) -> None:
        assert self.command("evaluate", "--subject", subject, "--keep", *options) == 0

    @property
    def predictions(self) -> dict[str, Prediction]:
        return read_predictions(self.root, self.checkpoint, self.data)

    @property
    def prediction(self) -> Prediction:
        return self.predictions["ball_1"]

    def stored(self, key: str) -> np.ndarray:
        """Stored values of a map, as the file holds them."""
        kinds = {kind.key: kind for kind in kinds_of(read_metadata(self.checkpoint), 2, logits=True)}
        return np.asarray(load_image(map_file(self.prediction.file, kinds[key])).dataobj)
