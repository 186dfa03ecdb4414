"""A model with its kept segmentations of a data set, from the arguments of a command."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.checkpointing.metadata import CheckpointMetadata, read_metadata
from core.cli.arguments import add_data, add_layout, add_model
from core.cli.options import AS_IN_TRAINING, add_data_options, model_data_options
from core.datasets import Dataset, open_dataset
from core.errors import RunError
from core.formatting import format_count, format_list
from core.paths import checkpoints_root, dataset_folder
from core.presets import flag_words
from core.runs.models import find_model
from core.runs.predictions import Prediction, read_predictions
from core.runs.store import folder as files


@dataclass(frozen=True)
class KeptModel:
    """A model and a data set.

    Attributes
    ----------
    checkpoint : Path.
    metadata : CheckpointMetadata.
    dataset : Dataset.
    predictions : dict. Kept predictions by subject.
    evaluate : str. The command that makes them.
    """

    root: Path
    checkpoint: Path
    metadata: CheckpointMetadata
    dataset: Dataset
    predictions: dict[str, Prediction]
    evaluate: str

    @property
    def name(self) -> str:
        """Name of the run, or of the file."""
        folder = self.checkpoint.parent
        return files.read_name(folder) if (folder / files.CONFIG).is_file() else self.checkpoint.stem

    def trained_on(self, cases: Sequence[str]) -> list[str]:
        """The cases that the model was trained on."""
        return self.metadata.seen_in_training(self.dataset.path, cases)

    def prediction(self, subject: str) -> Prediction:
        """The kept prediction of a subject.

        Raises
        ------
        UserError
            If the data set has no such subject, or there is no prediction of it.
        """
        self.dataset.subject(subject)  # an unknown one is reported as such
        if subject not in self.predictions:
            raise RunError(
                f"{subject}: expected a kept segmentation, found none; make it: {self.evaluate} "
                f"{shlex.join(flag_words('--subject', subject))} --keep"
            )
        return self.predictions[subject]


def add_kept_model(parser: argparse.ArgumentParser) -> None:
    """Positional RUN|FILE and DATA, and how the data set is read."""
    add_model(parser, ensembles=True)
    add_data(parser)
    add_data_reading(parser)


def add_data_reading(parser: argparse.ArgumentParser) -> None:
    """How the data set is read."""
    add_layout(parser)
    add_data_options(parser, default=AS_IN_TRAINING)


def warn_of_training(model: str, seen: Sequence[str], cases: int = 0) -> None:
    """Warn of cases that a model was trained on.

    Parameters
    ----------
    model : str. Its name.
    seen : sequence of str. Ids of these cases; without any there is no warning.
    cases : int. Number of all cases where figures are over all of them.
    """
    if not seen:
        return
    some = f"{len(seen)} of the {format_count(cases, 'case')} ({format_list(seen)})"
    named = some if len(seen) < cases else format_list(seen)
    effect = "these figures are too good" if cases else "its scores there are too good"
    print(f"warning: {model} was trained on {named}: {effect}", file=sys.stderr)


def open_kept_model(args: argparse.Namespace, model: str | None = None) -> KeptModel:
    """The model and the data set that arguments name.

    Parameters
    ----------
    model : str, optional. Text that names the model; by default the argument RUN.

    Raises
    ------
    UserError
        If there is no such model or data set, or the text names several models.
    """
    root, text = checkpoints_root(args.checkpoints), args.run if model is None else model
    checkpoint = find_model(root, text)
    metadata = read_metadata(checkpoint)
    folder = dataset_folder(args.data)
    dataset = open_dataset(folder, args.layout, model_data_options(args, metadata, folder))
    evaluate = f"python -m core {shlex.join(['evaluate', text, args.data])}"
    return KeptModel(root, checkpoint, metadata, dataset, read_predictions(root, checkpoint, dataset.path), evaluate)
