"""Keeps the segmentations of held-out subjects that training computed, with all scores, for Review and Quiz.

They are those of the validation that chose the best checkpoint. A subject that training resampled is segmented again,
since its labels are not known on its own grid; after a run that scored no whole volumes all of them are segmented now.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path

from core.errors import UserError
from core.events import Listener, Note, Preparing, Segmented
from core.runs.store import folder as files

ACTIVITY = "scoring held-out subjects"


def keep_predictions(
    folder: Path, segmented: Segmented, limit_s: float, listener: Listener, should_stop: Callable[[], bool]
) -> None:
    """Store a prediction of each held-out subject, the worst first, until the time is over or a stop is requested.

    The run is trained by now: an error is logged, not raised.

    Parameters
    ----------
    folder : Path. Run folder, with the best checkpoint.
    segmented : Segmented. Label maps of that checkpoint.
    limit_s : float. No subject is begun that is not expected to be finished in this time; of subjects with a label map
        the first one always is.
    listener : callable. Receives the progress.
    should_stop : callable. Called before each subject.
    """
    try:
        _keep(folder, segmented, limit_s, listener, should_stop)
    except UserError as error:
        listener(Note(f"note: predictions of held-out subjects are not kept: {error}"))
    except Exception:  # noqa: BLE001 - a bug: the trained network must not be lost for it
        listener(Note("note: predictions of held-out subjects are not kept:"))
        files.append_log(folder, traceback.format_exc())


def _keep(
    folder: Path, segmented: Segmented, limit_s: float, listener: Listener, should_stop: Callable[[], bool]
) -> None:
    from core.datasets import DataOptions, open_dataset
    from core.evaluation.evaluate import evaluate
    from core.evaluation.subject_prediction import SubjectPrediction
    from core.inference.trained_predictor import TrainedPredictor
    from core.runs.predictions import predictions_folder, save_prediction

    started, total = time.monotonic(), len(segmented.label_maps)
    if total and segmented.expected_s / total > limit_s:
        return
    predictor = TrainedPredictor(folder / files.BEST, segmented, files.read_config(folder).run.device)
    metadata = predictor.metadata
    options = DataOptions.from_config(metadata.train_config.data)
    dataset = open_dataset(metadata.dataset["path"], metadata.dataset["layout"], options)
    predictions = predictions_folder(folder.parent, predictor.path, dataset.path)

    def keep(result: SubjectPrediction) -> None:
        save_prediction(predictions, metadata, dataset, result)

    for number, subject in enumerate(segmented.label_maps):
        expected_s = (time.monotonic() - started) / number * (number + 1) if number else 0.0
        if should_stop() or expected_s > limit_s:
            listener(Note(f"predictions of {number} of {total} held-out subjects are kept; Review makes the others"))
            return
        listener(Preparing(ACTIVITY, number, total))
        predictor.subject = subject
        evaluate(predictor, dataset, subjects=[subject], on_prediction=keep)
    listener(Preparing(ACTIVITY, total, total))
