"""The prediction of one subject with its score and what is to be known about it; without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.datasets import LoadedSubject
from core.evaluation.metrics import SubjectScore
from core.inference.uncertainty import PredictionMaps


@dataclass(frozen=True)
class SubjectPrediction:
    """Prediction of one subject.

    Attributes
    ----------
    subject : LoadedSubject. The subject as read.
    prediction : ndarray, integer, shape (i, j, k). Class indices on the grid of the subject.
    score : SubjectScore or None. Scores against the reference; ``None`` without a reference.
    warnings : tuple of str. Reasons why the prediction may be wrong.
    settings : dict. Device and inference options, as plain JSON values.
    unprocessed_score : SubjectScore or None. Scores without the postprocessing; ``None`` where there is none.
    disagreement : ndarray or None. Of the members of an ensemble, float32, shape (i, j, k), 0 to 1; ``None`` for a
        single network.
    maps : PredictionMaps or None. Its probabilities and uncertainty, where they are asked for.
    """

    subject: LoadedSubject
    prediction: np.ndarray
    score: SubjectScore | None = None
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    unprocessed_score: SubjectScore | None = None
    disagreement: np.ndarray | None = None
    maps: PredictionMaps | None = None
