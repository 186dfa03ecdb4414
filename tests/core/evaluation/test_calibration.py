"""Calibration of probabilities, against cases that are counted by hand and an own computation of the error."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from core.evaluation.calibration import CalibrationCounts, count_calibration, pool_calibration

STEPS = 250


def counts_of(groups: list[tuple[int, int, int]]) -> CalibrationCounts:
    """Counts of groups of voxels: step of the probability, voxels, and how many of them have the class."""
    stored = np.concatenate([np.full(voxels, step, np.uint8) for step, voxels, _ in groups])
    inside = np.concatenate([np.arange(voxels) < number for _, voxels, number in groups])
    shape = (1, 1, stored.size)
    known = np.ones(shape, bool)
    return count_calibration(stored.reshape(shape), inside.reshape(shape), STEPS, known)


def test_probabilities_that_are_right_have_no_error() -> None:
    """0.9 (step 225) in 10 voxels of which 9 have the class, 0.2 (step 50) in 5 of which 1 has it."""
    found = counts_of([(225, 10, 9), (50, 5, 1)])
    assert found.expected_error() == pytest.approx(0) and found.bias == pytest.approx(0)
    nine, two = found.bins()[9], found.bins()[2]
    assert (nine.low, nine.high, nine.voxels) == (0.9, 1.0, 10) and nine.share == nine.probability == 0.9
    assert (two.voxels, two.share, two.probability) == (5, 0.2, 0.2)
    assert [one.voxels for one in found.bins()] == [0, 0, 5, 0, 0, 0, 0, 0, 0, 10]


def test_error_is_the_mean_gap_of_the_bins_by_their_voxels() -> None:
    """0.9 where 6 of 10 are right, 0.2 where 2 of 4 are: (10 * 0.3 + 4 * 0.3) / 14; the signs do not cancel."""
    found = counts_of([(225, 10, 6), (50, 4, 2)])
    assert found.expected_error() == pytest.approx(0.3)
    assert found.bias == pytest.approx((10 * 0.9 + 4 * 0.2 - 8) / 14)
    assert counts_of([(250, 8, 2)]).expected_error() == pytest.approx(0.75), "1 is in the last bin"


def test_gaps_of_one_bin_cancel_and_those_of_more_bins_do_not() -> None:
    """Steps 226 and 248 (0.904 and 0.992) are in one bin of ten, and in two bins of twenty."""
    found = counts_of([(226, 10, 10), (248, 10, 9)])
    assert found.expected_error(10) == pytest.approx(abs(19 / 20 - (0.904 + 0.992) / 2))
    assert found.expected_error(20) == pytest.approx((0.096 + 0.092) / 2)


def test_a_border_of_two_bins_belongs_to_the_upper_one() -> None:
    assert [one.voxels for one in counts_of([(25, 3, 0), (24, 2, 0)]).bins()][:2] == [2, 3]


def test_unclear_voxels_are_chosen_by_the_probability_alone() -> None:
    """Steps 2 and 248 are 0.8 and 99.2 %; 3 and 247 are 1.2 and 98.8 %."""
    found = counts_of([(2, 100, 50), (3, 1, 1), (247, 1, 0), (248, 100, 0)])
    assert found.total == 202 and found.unclear.total == 2
    assert found.unclear.expected_error() == pytest.approx(0.988)
    assert found.unclear.bias == pytest.approx(0)


def test_ignored_voxels_count_for_nothing_and_shapes_must_agree() -> None:
    stored = np.array([[[250, 250, 0]]], np.uint8)
    inside = np.array([[[True, False, True]]])
    found = count_calibration(stored, inside, STEPS, np.array([[[True, False, True]]]))
    assert found.total == 2 and found.inside.sum() == 2
    with pytest.raises(ValueError, match="one shape"):
        count_calibration(stored, inside[..., :2], STEPS, inside)
    with pytest.raises(ValueError, match="expected steps from 0 to 200, got 0 to 250"):
        count_calibration(stored, inside, 200, inside)


def test_without_voxels_the_error_is_not_a_number() -> None:
    nothing = counts_of([(250, 3, 3)]).unclear
    assert nothing.total == 0 and math.isnan(nothing.expected_error()) and math.isnan(nothing.bias)
    assert all(math.isnan(one.share) and one.voxels == 0 for one in nothing.bins())


def test_counts_of_cases_add_up_and_survive_a_file() -> None:
    one, two = counts_of([(225, 10, 6)]), counts_of([(225, 10, 10), (0, 5, 0)])
    pooled = pool_calibration([{"bright": one}, {"bright": two, "dark": one}])
    assert pooled["bright"].bins()[9].share == 0.8 and pooled["bright"].total == 25 and pooled["dark"].total == 10
    again = CalibrationCounts.from_json(json.loads(json.dumps(pooled["bright"].to_json())))
    assert again.expected_error() == pooled["bright"].expected_error()
    with pytest.raises(ValueError, match="same steps"):
        CalibrationCounts.from_json({"voxels": [1, 2], "inside": [1]})


def test_error_is_that_of_an_own_computation_voxel_by_voxel() -> None:
    """Of a model that gives too much: the class is there with the square of its probability."""
    generator = np.random.default_rng(0)
    steps = generator.integers(0, STEPS + 1, (20, 20, 20)).astype(np.uint8)
    given = steps / STEPS
    inside = generator.random(given.shape) < given**2
    found = count_calibration(steps, inside, STEPS, np.ones(given.shape, bool))
    edges = np.linspace(0, 1, 11)
    gaps = []
    for low, high in itertools.pairwise(edges):
        chosen = (given >= low - 1e-9) & ((given < high - 1e-9) | ((high == 1) & (given == 1)))
        gaps.append(chosen.mean() * abs(given[chosen].mean() - inside[chosen].mean()))
    assert found.expected_error() == pytest.approx(sum(gaps), abs=1e-12)
    assert found.bias == pytest.approx(1 / 2 - 1 / 3, abs=0.02)
    assert found.expected_error() == pytest.approx(found.bias, abs=0.02), "it gives too much everywhere"
