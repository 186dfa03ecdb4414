"""Segments a case with each kept epoch of a run, and keeps the predictions; those that are kept are not made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.datasets import Dataset
from core.evaluation.evaluate import evaluate
from core.evaluation.subject_prediction import SubjectPrediction
from core.inference.ensemble_predictor import open_predictor
from core.runs.kept_epochs import KeptEpoch, epoch_predictions
from core.runs.predictions import Prediction, predictions_folder, save_prediction
from core.types import TextProgressCallback


def segment_epochs(
    root: Path,
    epochs: Sequence[KeptEpoch],
    dataset: Dataset,
    subject: str,
    progress: TextProgressCallback | None = None,
) -> dict[str, Prediction]:
    """Segment a case with each epoch, with the options that its checkpoint holds. After an interruption the next call
    continues.

    Parameters
    ----------
    root, epochs, dataset, subject : as in :func:`core.runs.kept_epochs.epoch_predictions`.
    progress : callable, optional. Called with (epochs done, total epochs, name of the current epoch); epochs done is
        fractional during an epoch.

    Returns
    -------
    dict of Prediction. By the name of the epoch, in the order of training.

    Raises
    ------
    UserError
        If a checkpoint or the case cannot be read, or a prediction cannot be written.
    """
    kept = epoch_predictions(root, epochs, dataset, subject)
    missing = [epoch for epoch in epochs if epoch.name not in kept]
    for number, epoch in enumerate(missing):

        def show(done: float, total: int, _: str, number: int = number, name: str = epoch.name) -> None:
            if progress is not None:
                progress(number + done / total, len(missing), name)

        predictor = open_predictor((epoch.checkpoint,))
        made: list[SubjectPrediction] = []
        evaluate(predictor, dataset, progress=show, subjects=[subject], on_prediction=made.append)
        folder = predictions_folder(root, epoch.checkpoint, dataset.path)
        for result in made:
            save_prediction(folder, predictor.metadata, dataset, result)
    if progress is not None:
        progress(len(missing), len(missing), "")
    return epoch_predictions(root, epochs, dataset, subject)
