"""Order and filters of the cases under review, and what the list and its strip plot show of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from core.evaluation.case_measures import MEASURES
from core.evaluation.metrics import SubjectScore
from core.runs.predictions import Prediction
from ui.review import case_list
from ui.review.case_list import Scores
from ui.review.case_order import Order, by_mark, spread_of, worst_first

BY_KEY = {measure.key: measure for measure in MEASURES}
CLASSES = [{"name": "a", "colour": "#111111"}, {"name": "b", "colour": "#222222"}]


def prediction(subject: str, a: float, b: float, hd95_mm: float, missed: tuple[str, ...] = ()) -> Prediction:
    """Dice of two classes, and the HD95 of the first."""
    volumes = {"a": {"truth": 2.0, "prediction": 2.0 * a}, "b": {"truth": 1.0, "prediction": 1.0}}
    score = SubjectScore(
        {"a": a, "b": b},
        {"a": hd95_mm, "b": 1.0},
        {"a": hd95_mm / 2, "b": 0.5},
        missed,
        volumes,
        {"a": {"1": a}, "b": {"1": b}},
    )
    return Prediction(subject, Path(subject), score, 1, 1, "", 0.0)


MADE = {
    "s1": prediction("s1", 0.9, 0.5, 3.0),
    "s2": prediction("s2", 0.8, 0.9, 9.0),
    "s3": prediction("s3", 0.0, 0.95, math.nan, missed=("a",)),
    "s4": replace(prediction("s4", 0, 0, 0), score=None),
}
SUBJECTS = ["s1", "s2", "s3", "s4", "s5"]


@pytest.mark.parametrize(
    ("measure", "class_name", "expected"),
    [
        ("dice", None, ["s3", "s1", "s2"]),
        ("dice", "b", ["s1", "s2", "s3"]),
        ("hd95_mm", "a", ["s3", "s2", "s1"]),
        ("asd_mm", None, ["s3", "s2", "s1"]),
        ("volume", "a", ["s3", "s2", "s1"]),
        ("surface_dice-1", "a", ["s3", "s2", "s1"]),
    ],
)
def test_worst_case_by_any_measure_is_first_and_a_missed_structure_before_it(
    measure: str, class_name: str | None, expected: list[str]
) -> None:
    order = Order(BY_KEY[measure], class_name)
    assert worst_first(SUBJECTS, MADE, order) == [*expected, "s4", "s5"]


def shown(measure: str, class_name: str | None = None, chosen: str = "s1") -> Scores:
    order = Order(BY_KEY[measure], class_name)
    by_case = {id: p.score for id, p in MADE.items()}
    return Scores(order.label, order.measure, by_case, order.values(MADE, SUBJECTS), spread_of(SUBJECTS, MADE, order))


def test_row_shows_the_measure_and_a_dash_for_the_distance_of_a_missed_structure() -> None:
    rows = {id: case_list._row(id, shown("hd95_mm", "a"), CLASSES) for id in SUBJECTS}
    assert {id: row["value"] for id, row in rows.items()} == {"s1": "3.0", "s2": "9.0", "s3": "–", "s4": "–", "s5": "–"}
    assert [id for id, row in rows.items() if row["missed"]] == ["s3"]
    assert [id for id, row in rows.items() if row["waiting"]] == ["s5"]
    assert rows["s1"]["title"] == "Dice a 0.900, b 0.500"
    signed = case_list._row("s2", shown("volume", "a"), CLASSES)["value"]
    assert signed == "-20.0"


def test_strip_plot_places_a_case_among_all_cases() -> None:
    plot = case_list._plot(shown("hd95_mm", "a"), SUBJECTS, "s1")
    assert plot is not None and [point["id"] for point in plot["points"]] == ["s1", "s2"]
    assert plot["text"] == "3.0 is number 3 of 3 from the worst; median 6.0, middle half 4.5 to 7.5"
    assert plot["ends"] == ["3.0", "9.0"]
    assert case_list._plot(shown("hd95_mm", "a"), ["s2"], "s2")["points"][0]["id"] == "s2"  # type: ignore[index]
    only = Scores("Dice", BY_KEY["dice"], {}, {"s1": 0.5}, shown("dice").spread)
    assert case_list._plot(only, SUBJECTS, "s1") is None


def test_cases_are_grouped_by_their_mark_and_marks_of_other_cases_count_for_nothing() -> None:
    groups = by_mark(["a", "b", "c"], {"a": "fix", "b": "accept", "elsewhere": "fix"})
    assert groups == {"all": {"a", "b", "c"}, "accept": {"b"}, "fix": {"a"}, "discuss": set(), "none": {"c"}}
