"""Analyses of kept predictions (:mod:`core.evaluation.case_analysis`), stored beside them
(:mod:`core.runs.kept_counts`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.datasets import Dataset
from core.evaluation.case_analysis import CaseAnalysis, analyse_case
from core.evaluation.compared_subject import read_compared
from core.labels import LabelSpace
from core.runs.kept_counts import CountsKind, KeptCounts
from core.runs.predictions import Prediction
from core.types import TextProgressCallback

_KIND = CountsKind("analysis", 1, CaseAnalysis.from_json)


def read_analyses(predictions: Mapping[str, Prediction]) -> KeptCounts[CaseAnalysis]:
    """The analyses of kept predictions that have a score; parameters are those of
    :meth:`core.runs.kept_counts.CountsKind.read`."""
    return _KIND.read(predictions)


def analyse_kept(
    dataset: Dataset,
    labels: LabelSpace,
    predictions: Mapping[str, Prediction],
    progress: TextProgressCallback | None = None,
) -> KeptCounts[CaseAnalysis]:
    """Analyse the predictions that are not analysed yet or have failed, and keep the analyses.

    Parameters
    ----------
    dataset : Dataset. The data set of the predictions.
    labels : LabelSpace. Their classes.

    The other parameters and the errors are those of :meth:`core.runs.kept_counts.CountsKind.count`.
    """

    def analyse(kept: Prediction, show: Callable[[float], None]) -> Any:
        compared = read_compared(dataset, kept.subject, labels, kept.file)
        axes_mm = compared.loaded.geometry.axes_mm
        return analyse_case(compared.known_truth, compared.prediction, axes_mm, labels.names).to_json()

    return _KIND.count(predictions, analyse, progress)
