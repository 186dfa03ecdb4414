"""The cases of a model as a table: all measures of all classes, in full precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.csv_text import csv_table
from core.evaluation.case_measures import ALL_CLASSES, MEASURES
from core.runs.predictions import Prediction

VOLUMES = {"Volume of the reference (ml)": "truth", "Volume of the prediction (ml)": "prediction"}
HEADER = (
    "Case", "State", "Class", *(measure.label for measure in MEASURES), *VOLUMES, "Missed", "Epoch"
)  # fmt: skip
NOT_SEGMENTED, NO_REFERENCE, SCORED = "not segmented", "no reference", "scored"


def case_table_csv(predictions: Mapping[str, Prediction], subjects: Sequence[str]) -> str:
    """CSV with a line per case and class, and one for the means over the classes of a case, as Review shows them.

    A measure that is not defined is empty; the distance of a missed structure is ``inf``. A case that is not scored has
    one line, which says why.

    Parameters
    ----------
    predictions : mapping. Kept predictions by subject.
    subjects : sequence of str. Ids of the cases, in the order of the lines.
    """
    return csv_table(HEADER, (row for id in subjects for row in _rows(id, predictions.get(id))))


def _rows(id: str, prediction: Prediction | None) -> Iterator[tuple[Any, ...]]:
    if prediction is None:
        yield id, NOT_SEGMENTED, *[None] * (len(HEADER) - 2)
        return
    score = prediction.score
    state = SCORED if score is not None else NO_REFERENCE
    if prediction.stale:
        state += f"; made {prediction.stale_reason}"
    if score is None:
        yield id, state, *[None] * (len(HEADER) - 3), prediction.epoch
        return
    for name in (None, *score.dice):
        values = [measure.value(score, name) for measure in MEASURES]
        volumes = score.volume_ml.get(name, {}) if name is not None else {}
        missed = ", ".join(score.missed) if name is None else "yes" if name in score.missed else "no"
        volume_cells = [volumes.get(kind) for kind in VOLUMES.values()]
        yield id, state, name or ALL_CLASSES, *values, *volume_cells, missed, prediction.epoch
