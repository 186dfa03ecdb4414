"""Analyses of kept predictions (:mod:`core.evaluation.case_analysis`), stored beside them.

``analysis/<subject>.json`` in the folder of the predictions holds the time of the prediction that it is of, and the
counts, or why there are none. It is of no use once the prediction is replaced, and is then made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.datasets import Dataset
from core.errors import RunError, UserError
from core.evaluation.case_analysis import CaseAnalysis, analyse_case
from core.evaluation.compared_subject import read_compared
from core.labels import LabelSpace
from core.runs.predictions import Prediction
from core.runs.store import folder as files
from core.strict_json import plain
from core.types import TextProgressCallback

FOLDER = "analysis"
VERSION = 1


@dataclass(frozen=True)
class KeptAnalyses:
    """Analyses of the predictions of a model.

    Attributes
    ----------
    analyses : dict. By subject.
    failures : dict. Why a subject cannot be analysed, by subject.
    missing : tuple of str. Subjects that can be analysed and are not yet.
    outdated : tuple of str. Subjects whose prediction is outdated, which are not analysed.
    """

    analyses: dict[str, CaseAnalysis] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()


def read_analyses(predictions: Mapping[str, Prediction]) -> KeptAnalyses:
    """The analyses of predictions that have a score.

    Parameters
    ----------
    predictions : mapping. Kept predictions by subject.
    """
    scored = {id: kept for id, kept in predictions.items() if kept.score is not None}
    found: dict[str, CaseAnalysis] = {}
    failures: dict[str, str] = {}
    for id, kept in scored.items():
        if kept.stale:
            continue
        content = _read(kept)
        if content is None:
            continue
        if isinstance(content, str):
            failures[id] = content
        else:
            found[id] = content
    outdated = tuple(id for id, kept in scored.items() if kept.stale)
    missing = tuple(id for id in scored if id not in found and id not in failures and id not in outdated)
    return KeptAnalyses(found, failures, missing, outdated)


def analyse_kept(
    dataset: Dataset,
    labels: LabelSpace,
    predictions: Mapping[str, Prediction],
    progress: TextProgressCallback | None = None,
) -> KeptAnalyses:
    """Analyse the predictions that are not analysed yet or have failed, and keep the analyses.

    Parameters
    ----------
    dataset : Dataset. The data set of the predictions.
    labels : LabelSpace. Their classes.
    predictions : mapping. Kept predictions by subject.
    progress : callable, optional. Called with (subjects done, total subjects, id of the current subject).

    Raises
    ------
    RunError
        If an analysis cannot be written.
    """
    before = read_analyses(predictions)
    waiting = [*before.missing, *before.failures]
    for number, id in enumerate(waiting):
        if progress is not None:
            progress(number, len(waiting), id)
        kept = predictions[id]
        content: dict[str, Any] = {"version": VERSION, "made_at": kept.made_at}
        try:
            compared = read_compared(dataset, id, labels, kept.file)
            axes_mm = compared.loaded.geometry.axes_mm
            analysis = analyse_case(compared.known_truth, compared.prediction, axes_mm, labels.names)
            content["analysis"] = analysis.to_json()
        except UserError as error:  # the other cases are analysed all the same
            content["failure"] = str(error)
        _write(kept, content)
    if progress is not None:
        progress(len(waiting), len(waiting), "")
    return read_analyses(predictions)


def _path(kept: Prediction) -> Path:
    return kept.file.parent / FOLDER / f"{kept.file.name.removesuffix('.nii.gz')}.json"


def _read(kept: Prediction) -> CaseAnalysis | str | None:
    """The analysis of a prediction, or why there is none; ``None`` where it was not made, or of another prediction."""
    try:
        content = json.loads(_path(kept).read_text(encoding="utf-8"))
        if content["version"] != VERSION or content["made_at"] != kept.made_at:
            return None
        return str(content["failure"]) if "failure" in content else CaseAnalysis.from_json(content["analysis"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(kept: Prediction, content: Mapping[str, Any]) -> None:
    path = _path(kept)
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be created: {error.strerror or error}") from error
    files.write_json(path, plain(content))
