"""Order of the cases under review: by which measure and class they are sorted, and which of them are listed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from core.datasets.layouts.base import natural_key
from core.evaluation.case_measures import ALL_CLASSES, DICE, MEASURES, Distribution, Measure, distribution
from core.evaluation.metrics import SubjectScore
from core.runs.predictions import Prediction
from core.runs.review_notes import MARKS
from ui.shared.state import load_from_url, save_to_url

SORT, CLASS, FILTER, SHOWN = "review_sort", "review_class", "review_filter", "review_shown"  # session keys
MARKED = "review_marked"  # session key
ANY_MARK, NO_MARK = "all", "none"
ALL, OUTLIERS, MISSED, WAITING = "all cases", "outliers", "missed structures", "not segmented"
FEW = 6  # cases that need no filter


@dataclass(frozen=True)
class Order:
    """How cases are compared.

    Attributes
    ----------
    measure : Measure.
    class_name : str or None. The class; ``None`` for the mean over classes.
    """

    measure: Measure = DICE
    class_name: str | None = None

    @property
    def label(self) -> str:
        """The measure and the class in words."""
        return f"{self.measure.label}, {self.class_name}" if self.class_name else self.measure.label

    def values(self, predictions: Mapping[str, Prediction], subjects: Sequence[str]) -> dict[str, float]:
        """The value of each case that was segmented and has a reference; NaN where it has none of this measure."""
        scores = {id: predictions[id].score for id in subjects if id in predictions}
        return {id: self.value(score) for id, score in scores.items() if score is not None}

    def value(self, score: SubjectScore) -> float:
        """The value of a score."""
        return self.measure.value(score, self.class_name)


def worst_first(
    subjects: Sequence[str], predictions: Mapping[str, Prediction], order: Order | None = None
) -> list[str]:
    """Subjects from the worst to the best, then those segmented without a value (where the networks of an ensemble
    disagree most, first), then those not segmented."""
    order = order or Order()
    values = order.values(predictions, subjects)

    def rank(subject: str) -> tuple[int, float]:
        prediction = predictions.get(subject)
        if prediction is None:
            return 2, 0.0
        value = values.get(subject, math.nan)
        if math.isnan(value):
            return 1, -(prediction.mean_disagreement or 0.0)
        return 0, -order.measure.badness(value)

    return sorted(sorted(subjects, key=natural_key), key=rank)


def choose_order(classes: Sequence[str]) -> Order:
    """Render the select boxes of measure and class.

    Parameters
    ----------
    classes : sequence of str. Names of the classes.
    """
    labels = {measure.key: measure.label for measure in MEASURES}
    load_from_url(SORT, DICE.key, labels, "sort")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        key = st.selectbox("Worst first by", list(labels), key=SORT, format_func=labels.__getitem__, width=190)
        save_to_url(SORT, key, "sort", DICE.key)
        class_name = ALL_CLASSES
        if len(classes) > 1:
            options = [ALL_CLASSES, *classes]
            class_key = f"{CLASS}-{'-'.join(classes)}"
            load_from_url(class_key, ALL_CLASSES, options, "of")
            class_name = st.selectbox("Class", options, key=class_key, width="stretch")
            save_to_url(class_key, class_name, "of", ALL_CLASSES)
    measure = next(measure for measure in MEASURES if measure.key == key)
    return Order(measure, None if class_name == ALL_CLASSES else class_name)


def choose_shown(
    subjects: Sequence[str],
    predictions: Mapping[str, Prediction],
    spread: Distribution,
    marks: Mapping[str, str],
) -> list[str]:
    """Render the filters of a list of cases; those of the subjects that pass, or all where none does.

    Parameters
    ----------
    subjects : sequence of str. Ids in the order of the list.
    predictions : mapping. Kept predictions by subject.
    spread : Distribution. Of the values by which the list is sorted.
    marks : mapping. Mark of the cases that a reviewer has marked; without any there is no filter by it.
    """
    found = _found(subjects, predictions, spread) if len(subjects) > FEW else list(subjects)
    marked = _with_mark(subjects, marks)
    shown = [id for id in found if id in marked]
    if not shown:
        st.caption("No case passes this filter: all are listed.")
    return shown or list(subjects)


def _found(subjects: Sequence[str], predictions: Mapping[str, Prediction], spread: Distribution) -> list[str]:
    """Render the filters by name and by result; the subjects that pass."""
    groups = {ALL: set(subjects), OUTLIERS: set(spread.outliers), MISSED: set(), WAITING: set()}
    for id in subjects:
        score = predictions[id].score if id in predictions else None
        if id not in predictions:
            groups[WAITING].add(id)
        elif score is not None and score.missed:
            groups[MISSED].add(id)
    load_from_url(SHOWN, ALL, list(groups), "list")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        load_from_url(FILTER, "", parameter="find")
        found = st.text_input("Find", key=FILTER, placeholder="part of a name", width="stretch")
        save_to_url(FILTER, found, "find", "")
        name = st.selectbox(
            "List", list(groups), key=SHOWN, format_func=lambda group: f"{group} ({len(groups[group])})", width=190
        )
        save_to_url(SHOWN, name, "list", ALL)
    return [id for id in subjects if id in groups[name] and found.strip().lower() in id.lower()]


def _with_mark(subjects: Sequence[str], marks: Mapping[str, str]) -> set[str]:
    """Render the filter by the mark of a reviewer, with the number of cases of each; the subjects that pass."""
    groups = by_mark(subjects, marks)
    if len(groups[NO_MARK]) == len(subjects):
        save_to_url(MARKED, ANY_MARK, "marked", ANY_MARK)
        return set(subjects)
    load_from_url(MARKED, ANY_MARK, list(groups), "marked")
    chosen = st.segmented_control(
        "Marks in notes",
        list(groups),
        key=MARKED,
        required=True,
        format_func=lambda mark: f"{mark} ({len(groups[mark])})",
        help="the newest mark of each case",
    )
    save_to_url(MARKED, chosen or ANY_MARK, "marked", ANY_MARK)
    return groups[chosen or ANY_MARK]


def by_mark(subjects: Sequence[str], marks: Mapping[str, str]) -> dict[str, set[str]]:
    """The subjects of each mark, all of them, and those without one, under the names of the filter.

    Parameters
    ----------
    marks : mapping. The newest mark by subject; those of other subjects count for nothing.
    """
    groups: dict[str, set[str]] = {ANY_MARK: set(subjects)}
    for mark in MARKS:
        groups[mark] = {subject for subject in subjects if marks.get(subject) == mark}
    groups[NO_MARK] = {subject for subject in subjects if not marks.get(subject)}
    return groups


def spread_of(subjects: Sequence[str], predictions: Mapping[str, Prediction], order: Order) -> Distribution:
    """The distribution of the values of the cases."""
    return distribution(order.values(predictions, subjects), order.measure)
