"""The reliability diagram of the Review page, and the words below it, for counts made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation.calibration import CalibrationCounts, pool_calibration
from ui.review.calibration_figure import calibration_figure, farthest
from ui.review.calibration_view import in_words

STEPS = 250


def counts(*groups: tuple[int, int, int]) -> CalibrationCounts:
    """Counts of groups of voxels: step of the probability, voxels, and how many of them have the class."""
    voxels, inside = np.zeros((2, STEPS + 1), np.int64)
    for step, number, with_class in groups:
        voxels[step], inside[step] = number, with_class
    return CalibrationCounts(voxels, inside)


CASES = {
    "a": {"dark": counts((225, 1000, 900), (0, 9000, 0))},
    "b": {"dark": counts((225, 1000, 500), (100, 49, 49))},
}


def test_points_are_shares_in_percent_over_the_mean_probability_of_bins_with_enough_voxels() -> None:
    traces, _ = calibration_figure(CASES, pool_calibration(CASES.values()), "dark", {"dark": "#123456"})
    first, second, pooled, bars = traces
    assert first["customdata"] == ["b"] and (first["x"], first["y"]) == ([90.0], [50.0]), "49 voxels are too few"
    assert first["line"]["color"] == "rgba(18,52,86,0.35)" and "opacity" not in first, "of which the rectangle is seen"
    assert second["customdata"] == ["a", "a"] and (second["x"], second["y"]) == ([0.0, 90.0], [0.0, 90.0])
    assert pooled["name"] == "dark" and "customdata" not in pooled
    assert pooled["y"] == pytest.approx([0, 70]) and pooled["text"] == ["9,000", "2,000"]
    assert bars["y"] == [9000, None, None, None, 49, None, None, None, None, 2000]
    assert bars["x"][9] == pytest.approx(95)


def test_case_that_counts_most_for_the_error_is_first_and_clear_ones_count_for_nothing() -> None:
    assert farthest(CASES, "dark") == ["b", "a"]
    assert farthest({"c": {"dark": counts((250, 1000, 0))}}, "dark") == []


def test_words_say_whether_the_probabilities_are_too_high_or_too_low() -> None:
    text = in_words(CASES["b"]["dark"], "dark")
    high = (1000 * 0.4 - 49 * 0.6) / 1049
    error = (1000 * 0.4 + 49 * 0.6) / 1049
    points = f"{100 * high:.1f} percentage points too high"
    assert f"error {100 * error:.1f} %, the mean probability is {points} (n = 1,049 voxels)" in text
    assert "is 10.0 percentage points too low" in in_words(counts((225, 10, 10)), "dark")
    assert "is right" in in_words(counts((225, 10, 9)), "dark")
    assert in_words(counts((250, 10, 10)), "dark") == "No voxel has a probability of dark from 1 to 99 %."
