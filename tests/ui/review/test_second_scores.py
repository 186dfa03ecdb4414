"""Scores of two segmentations of a case side by side: values, difference, and which that makes the second one."""

from __future__ import annotations

import math

from core.evaluation.metrics import SubjectScore
from ui.review.second_scores import comparison_rows

NAN = math.nan


def score(dice: dict[str, float], hd95_mm: dict[str, float], missed: tuple[str, ...] = ()) -> SubjectScore:
    volumes = {name: {"truth": 1.0, "prediction": 1.0} for name in dice}
    return SubjectScore(dice, hd95_mm, hd95_mm, missed, volumes, {name: {"1": value} for name, value in dice.items()})


def cells(first: SubjectScore, second: SubjectScore) -> dict[tuple[str, str], list[str]]:
    """Cells of a row by class and measure."""
    found, name = {}, ""
    for row in comparison_rows(first, second, {"a": "#123456"}):
        name = row.name or name
        found[name, row.values[0]] = list(row.values[1:])
        assert row.colour == ("#123456" if row.name == "a" else "")
    return found


def test_the_better_one_has_the_higher_dice_and_the_lower_distance() -> None:
    first, second = score({"a": 0.8, "b": 0.9}, {"a": 2.0, "b": 1.0}), score({"a": 0.85, "b": 0.9}, {"a": 2.5, "b": 1})
    found = cells(first, second)
    assert found["a", "Dice"] == ["0.800", "0.850", "+0.050 better"]
    assert found["a", "Surface Dice, 1 mm"] == ["0.800", "0.850", "+0.050 better"]
    assert found["a", "HD95 (mm)"] == ["2.0", "2.5", "+0.5 worse"]
    assert found["a", "ASD (mm)"] == ["2.00", "2.50", "+0.50 worse"]
    assert found["b", "Dice"] == ["0.900", "0.900", "equal"]
    assert found["mean", "Dice"] == ["0.850", "0.875", "+0.025 better"]
    assert found["mean", "HD95 (mm)"] == ["1.5", "1.8", "+0.2 worse"]
    back = cells(second, first)
    assert (
        back["a", "Dice"][2] == "\N{MINUS SIGN}0.050 worse" and back["a", "HD95 (mm)"][2] == "\N{MINUS SIGN}0.5 better"
    )


def test_a_missed_structure_is_worse_than_any_distance_and_what_is_absent_has_no_value() -> None:
    first = score({"a": 0.0, "b": NAN}, {"a": NAN, "b": NAN}, missed=("a",))
    found = cells(first, score({"a": 0.5, "b": NAN}, {"a": 9.0, "b": NAN}))
    assert found["a", "HD95 (mm)"] == ["missed", "9.0", "better"]
    assert found["b", "Dice"] == ["–", "–", "–"] and found["b", "HD95 (mm)"] == ["–", "–", "–"]
    assert cells(first, first)["a", "HD95 (mm)"] == ["missed", "missed", "equal"]
