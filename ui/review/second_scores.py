"""Scores of the second prediction on the Review page: of a case beside those of the first one, and of all cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import Dataset
from core.datasets.loading import align_label
from core.errors import UserError
from core.evaluation.case_measures import MEASURES, Measure
from core.evaluation.metrics import SubjectScore
from core.evaluation.paired_comparison import comparable
from core.formatting import MISSING, format_list, format_number
from ui.review.imported_job import ImportedScoring
from ui.review.second_files import SecondFiles
from ui.review.second_model import Second, SecondModel
from ui.review.view import MINUS, TOLERANCE_MM, CaseList
from ui.shared import formatting, uploads
from ui.shared.class_table import ClassRow, class_table
from ui.shared.errors import error_box
from ui.shared.progress import progress
from ui.viewer.scenes import missing_classes

KINDS = ("dice", "surface_dice", "hd95_mm", "asd_mm")  # measures of the table
COLUMNS = ("measure", "first", "second", "difference")
MAX_WARNINGS = 3  # that are shown in full


@dataclass(frozen=True)
class SecondScores:
    """Scores that are compared with those of the model under review.

    Attributes
    ----------
    name : str. Of what has made the segmentations.
    kind : str. What it is: "second model", "rater" or "files".
    scores : mapping. Scores by case.
    metadata : CheckpointMetadata or None. Of a model.
    stale : tuple of str. Cases whose segmentation is outdated.
    """

    name: str
    kind: str
    scores: Mapping[str, SubjectScore]
    metadata: CheckpointMetadata | None = None
    stale: tuple[str, ...] = ()


def show_case_scores(
    cases: CaseList, metadata: CheckpointMetadata, dataset: Dataset, second: Second, chosen: str
) -> None:
    """Render the scores of both segmentations of the chosen case side by side, or the progress of those of files.

    Parameters
    ----------
    cases : CaseList. The cases of the list, with the predictions of the first model.
    metadata : CheckpointMetadata. Of the first model.
    dataset : Dataset. The data set under review.
    second : SecondModel or SecondFiles. What is compared.
    chosen : str. The chosen case.
    """
    kept = cases.predictions.get(chosen)
    if kept is None or kept.score is None:
        return
    if isinstance(second, SecondModel):
        other = second.predictions.get(chosen)
        score = None if other is None else other.score
    else:
        score = _score_of_file(cases, metadata, dataset, second, chosen)
    if score is None:
        return
    st.markdown(f"**First: this model. Second: {formatting.plain(second.name)}**")
    both = comparable({chosen: kept.score}, {chosen: score})
    colours = {c.name: c.colour for c in metadata.label_space.foreground}
    class_table(COLUMNS, comparison_rows(both.first[chosen], both.second[chosen], colours))
    if both.left_out:
        st.caption(f"Only one of them scores {formatting.plain(format_list(both.left_out))}.")


def comparison_rows(first: SubjectScore, second: SubjectScore, colours: Mapping[str, str]) -> list[ClassRow]:
    """Rows of a table with a line for each class and measure, and for the mean of each measure.

    Parameters
    ----------
    first, second : SubjectScore. Scores of one case, of the same names.
    colours : mapping. Colour by class.
    """
    measures = [m for m in MEASURES if m.kind in KINDS and m.tolerance_mm in (0, TOLERANCE_MM)]
    rows = []
    for name in (*first.dice, None):
        for number, measure in enumerate(measures):
            a, b = measure.value(first, name), measure.value(second, name)
            title = "" if number else name or "mean"
            values = [measure.label, _value(a, measure), _value(b, measure), _difference(a, b, measure)]
            rows.append(ClassRow(title, values, colours.get(title, "")))
    return rows


def scores_of_all(
    cases: CaseList, metadata: CheckpointMetadata, dataset: Dataset, second: Second
) -> SecondScores | None:
    """The scores of the second prediction of all cases. Those of files are made by a job, which a button starts; while
    there are none, it or its progress is rendered and the result is ``None``.

    Parameters
    ----------
    cases, metadata, dataset, second : as for :func:`show_case_scores`.
    """
    if isinstance(second, SecondModel):
        scores = {id: p.score for id, p in second.predictions.items() if p.score is not None}
        stale = tuple(id for id, p in second.predictions.items() if p.stale)
        return SecondScores(second.name, "second model", scores, second.metadata, stale)
    scored = [id for id, kept in cases.predictions.items() if kept.score is not None]
    files = {id: file for id, file in second.matched.files.items() if id in scored}
    if not files:
        st.info(
            f"No case that the model has segmented has one of {formatting.plain(second.name)} yet: segment some, "
            "or choose other files.",
            icon=":material/info:",
        )
        return None
    job = ImportedScoring(cases.checkpoint, metadata, dataset, second.source, files)
    state = job.observe()
    if state.state == "running":
        progress(f"Scoring {formatting.count(len(files), 'case')}", job.observe)
        return None
    found = job.scores()
    if found is None:
        if state.state == "failed":
            error_box(_without_folders(state.message), context="The segmentations could not be scored")
        st.caption(f"Scores of {formatting.plain(second.name)}, against the reference of the data set.")
        if st.button(f"Score {formatting.count(len(files), 'case')}", type="primary", icon=":material/play_arrow:"):
            job.forget_failure()
            job.advance()
            st.rerun()
        return None
    _show_remarks([f"{id}: {text}" for id, texts in found.warnings.items() for text in texts])
    for id, reason in found.failures.items():
        st.caption(formatting.plain(f"{id} has no score: {_without_folders(reason)}"))
    return SecondScores(second.name, second.kind, found.scores)


def _score_of_file(
    cases: CaseList, metadata: CheckpointMetadata, dataset: Dataset, second: SecondFiles, chosen: str
) -> SubjectScore | None:
    """The score of the chosen case, which a job makes when it is first shown; its progress, or why there is none, is
    rendered."""
    file = second.files.get(chosen)
    if file is None or missing_classes(metadata.label_space, dataset):
        return None
    try:
        shown_by_viewer = align_label(dataset, dataset.subject(chosen), file).warnings
    except UserError:
        return None  # the viewer says why
    job = ImportedScoring(cases.checkpoint, metadata, dataset, str(file), {chosen: file})
    state = job.advance()
    if state.state == "running":
        progress("Scoring the second segmentation", job.advance)
        return None
    found = job.scores()
    reason = state.message if found is None else found.failures.get(chosen, "")
    if reason:
        error_box(_without_folders(reason), context="The second segmentation has no scores")
        st.button("Score it again", icon=":material/refresh:", on_click=job.forget_failure)
    if found is None:
        return None
    _show_remarks([text for text in found.warnings.get(chosen, ()) if text not in shown_by_viewer])
    return found.scores.get(chosen)


def _show_remarks(texts: Sequence[str]) -> None:
    for text in texts[:MAX_WARNINGS]:
        st.warning(formatting.plain(f"Second segmentation: {text}"), icon=":material/warning:")
    if len(texts) > MAX_WARNINGS:
        st.caption(f"{len(texts) - MAX_WARNINGS} more warnings: `review score` lists all.")


def _without_folders(message: str) -> str:
    return uploads.without_session_folder(message)


def _value(value: float, measure: Measure) -> str:
    if math.isnan(value):
        return MISSING
    return "missed" if math.isinf(value) else format_number(value, measure.decimals)


def _difference(first: float, second: float, measure: Measure) -> str:
    """Second minus first, and which that makes the second one: ``+0.018 better``."""
    if math.isnan(first) or math.isnan(second):
        return MISSING
    if first == second:
        return "equal"
    word = "better" if measure.badness(second) < measure.badness(first) else "worse"
    if math.isinf(first) or math.isinf(second):
        return word
    return f"{second - first:+.{measure.decimals}f} {word}".replace("-", MINUS)
