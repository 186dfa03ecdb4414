"""Exact binomial intervals against hand-computed values and an independent formula."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from scipy.special import betaincinv
from scipy.stats import binom

from core.paths import project_root
from core.study.statistics import Score, binomial_interval


@pytest.mark.parametrize("n", [1, 2, 7, 20, 200])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_interval_equals_quantiles_of_the_beta_distribution(n: int, confidence: float) -> None:
    tail = (1 - confidence) / 2
    for correct in {0, 1, n // 3, n // 2, n - 1, n}:
        low = betaincinv(correct, n - correct + 1, tail) if correct else 0.0
        high = betaincinv(correct + 1, n - correct, 1 - tail) if correct < n else 1.0
        assert binomial_interval(correct, n, confidence) == pytest.approx((low, high), abs=1e-9)


def test_interval_equals_hand_computed_values() -> None:
    low, high = binomial_interval(10, 10)
    assert high == 1.0 and low == pytest.approx(0.025 ** (1 / 10))  # p ** 10 = 0.025
    assert binomial_interval(0, 10) == (0.0, pytest.approx(1 - 0.025 ** (1 / 10)))
    low, high = binomial_interval(14, 20)  # by definition: each tail has 2.5 %
    assert binom.sf(13, 20, low) == pytest.approx(0.025) and binom.cdf(14, 20, high) == pytest.approx(0.025)
    assert (round(low, 3), round(high, 3)) == (0.457, 0.881)
    assert binomial_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("correct", "n", "confidence"), [(-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)])
def test_interval_of_impossible_counts_is_refused(correct: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=f"got {correct} of {n}, {confidence}"):
        binomial_interval(correct, n, confidence)


def test_score_counts_correct_answers() -> None:
    score = Score.of([True, True, False, True])
    assert score == Score(3, 4) and score.accuracy == 0.75 and score.interval == binomial_interval(3, 4)
    assert math.isnan(Score.of([]).accuracy)


def test_import_does_not_load_scipy() -> None:
    code = "import sys, core.study.statistics, core.study.questions; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=project_root(), check=False).returncode == 0
