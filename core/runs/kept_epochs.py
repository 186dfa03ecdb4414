"""Checkpoints that a run has kept of its epochs (``--keep-every N``), and the predictions of a case by each of them.

A checkpoint is ``epoch-<number>.safetensors`` in the run folder: weights without training state. Predictions are kept
as those of any checkpoint of the run (:mod:`core.runs.predictions`). Works without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.checkpointing.metadata import BEST, LAST, CheckpointMetadata, read_metadata
from core.datasets import Dataset
from core.errors import CheckpointError
from core.files import may_be_present
from core.runs.predictions import Prediction, read_prediction

PATTERN = "epoch-*.safetensors"
OTHERS = {BEST: "best", LAST: "last"}  # which tell more than their epoch
ADVICE = "train with --keep-every N, which keeps a checkpoint every N epochs"


@dataclass(frozen=True)
class KeptEpoch:
    """A state of the network of a run.

    Attributes
    ----------
    name : str. "epoch 10", or "epoch 12, best".
    epoch : int. Epochs that were finished.
    checkpoint : Path. Its file.
    """

    name: str
    epoch: int
    checkpoint: Path


@dataclass(frozen=True)
class KeptEpochs:
    """The states of the network of a run.

    Attributes
    ----------
    epochs : tuple of KeptEpoch. In the order of training; empty for a run that has kept no epoch.
    damaged : tuple of str. Why files that are there cannot be read.
    """

    epochs: tuple[KeptEpoch, ...] = ()
    damaged: tuple[str, ...] = ()


def kept_epochs(folder: Path, read: Callable[[Path], CheckpointMetadata] = read_metadata) -> KeptEpochs:
    """The states that a run has kept: its epochs, and the best and the last one where they are others.

    Parameters
    ----------
    folder : Path. Run folder.
    read : callable. Reads the metadata of a checkpoint; raises :class:`~core.errors.CheckpointError`.
    """
    files = sorted(folder.glob(PATTERN))
    if not files:
        return KeptEpochs()
    damaged: list[str] = []
    found: dict[tuple[int, int], tuple[Path, list[str]]] = {}  # by epoch and step
    for path in (*files, *(folder / name for name in OTHERS)):
        if not may_be_present(path):
            continue
        try:
            progress = read(path).progress
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        place = int(progress.get("epoch") or 0), int(progress.get("step") or 0)
        _, words = found.setdefault(place, (path, []))
        if path.name in OTHERS:
            words.append(OTHERS[path.name])
    epochs = [
        KeptEpoch(", ".join([f"epoch {epoch}", *words]), epoch, path.absolute())
        for (epoch, _), (path, words) in sorted(found.items())
    ]
    return KeptEpochs(tuple(epochs), tuple(damaged))


def epoch_predictions(root: Path, epochs: Sequence[KeptEpoch], dataset: Dataset, subject: str) -> dict[str, Prediction]:
    """The up-to-date predictions of a case, by the name of the epoch.

    Parameters
    ----------
    root : Path. Checkpoints root.
    epochs : sequence of KeptEpoch. Those of :func:`kept_epochs`.
    dataset : Dataset. The data set, opened as the configuration of the run says.
    subject : str. Id of the case.
    """
    found = {epoch.name: read_prediction(root, epoch.checkpoint, dataset, subject) for epoch in epochs}
    return {name: kept for name, kept in found.items() if kept is not None and not kept.stale}
