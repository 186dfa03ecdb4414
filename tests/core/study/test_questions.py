"""The quiz: which slices are asked, how hard they are, and what a score says - by hand and against SciPy."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from core.study.questions import (
    AXES,
    DIFFICULTIES,
    Candidate,
    Question,
    Score,
    bands,
    candidates,
    common_box,
    draw,
    exact_interval,
    explain,
    shown_box,
    stack,
)

NAMES = ("background", "CSF", "GM", "WM")


def volumes() -> tuple[np.ndarray, np.ndarray]:
    """A box of class 1 with a core of class 2, and a prediction that errs in three known ways."""
    truth = np.zeros((10, 12, 8), np.uint8)
    truth[2:8, 2:10, 1:7] = 1
    truth[4:6, 4:8, 2:6] = 2
    prediction = truth.copy()
    prediction[4:6, 4:6, 3] = 1  # 4 voxels of class 2 called 1, in slice k = 3
    prediction[2, 2:10, 4] = 0  # 8 voxels missed, in slice k = 4
    prediction[:, :, 6] = 0  # nothing in slice k = 6
    return truth, prediction


def some(count: int, subject: str = "s", plane: Any = "axial", slices: int = 100) -> list[Candidate]:
    """Candidates in every second slice, the first the easiest."""
    return [Candidate(subject, plane, 2 * n, slices, 0.9, 100 - n, 200) for n in range(count)]


def test_candidates_by_hand() -> None:
    truth, prediction = volumes()
    found = candidates(truth, prediction, "s", ("axial",), least_foreground=10, least_differing=1)
    assert [(c.index, c.differing, c.foreground) for c in found] == [(3, 4, 48), (4, 8, 48)]
    assert [c.dice for c in found] == [pytest.approx(2 * 44 / (48 + 48)), pytest.approx(2 * 40 / (48 + 40))]
    assert {(c.subject, c.plane, c.slices) for c in found} == {("s", "axial", 8)}
    assert found[1].share == pytest.approx(8 / 48)


def test_never_an_empty_an_identical_or_a_nearly_empty_slice() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        truth = np.zeros((30, 28, 26), np.uint8)
        truth[5:25, 5:23, 4:22] = generator.integers(1, 4, (20, 18, 18))
        truth[:, :, 20] = 0
        truth[12:16, 12:16, 23] = 1  # 16 voxels only
        prediction = np.where(generator.random(truth.shape) < 0.9, truth, generator.integers(0, 4, truth.shape))
        prediction[:, 7, :] = 0
        prediction[:, :, 10] = truth[:, :, 10]
        found = candidates(truth, prediction.astype(np.uint8), least_foreground=30)
        assert {c.plane for c in found} == set(AXES)
        for c in found:
            a, b = (v.take(c.index, AXES[c.plane]) for v in (truth, prediction))
            assert min((a > 0).sum(), (b > 0).sum()) >= 30
            assert (a != b).sum() == c.differing >= 3
            assert ((a > 0) | (b > 0)).sum() == c.foreground
            same = ((a == b) & (a > 0)).sum()
            assert c.dice == pytest.approx(2 * same / ((a > 0).sum() + (b > 0).sum()))
        asked = {(c.plane, c.index) for c in found}
        assert not asked & {("axial", 10), ("axial", 20), ("axial", 23), ("coronal", 7)}


def test_the_choice_of_slices_does_not_know_which_is_the_truth() -> None:
    truth, prediction = volumes()
    one, other = (
        candidates(a, b, least_foreground=1, least_differing=1) for a, b in ((truth, prediction), (prediction, truth))
    )
    assert one == other and len(one) > 5
    assert common_box(truth, prediction, (1, 1, 1)) == common_box(prediction, truth, (1, 1, 1))


def test_volumes_without_anything_give_no_question() -> None:
    nothing = np.zeros((5, 5, 5), np.uint8)
    assert candidates(nothing, nothing) == [] and candidates(nothing, nothing + 1) == []
    assert draw([], 10, "easy", np.random.default_rng(0)) == []
    with pytest.raises(ValueError, match="one shape"):
        candidates(nothing, nothing[1:])


def test_difficulty_is_the_share_that_differs() -> None:
    among = some(30)
    np.random.default_rng(1).shuffle(among)  # type: ignore[arg-type]
    parts = bands(among)
    assert [len(parts[d]) for d in DIFFICULTIES] == [10, 10, 10]
    assert min(c.share for c in parts["easy"]) > max(c.share for c in parts["medium"])
    assert min(c.share for c in parts["medium"]) > max(c.share for c in parts["hard"])
    for difficulty in DIFFICULTIES:
        drawn = draw(among, 10, difficulty, np.random.default_rng(0))
        assert {q.candidate for q in drawn} == set(parts[difficulty])
        assert {q.difficulty for q in drawn} == {difficulty}
    assert bands(among[:2]) == dict.fromkeys(DIFFICULTIES, among[:2])


def test_a_game_is_spread_over_subjects_planes_and_positions_without_repeats() -> None:
    among = [c for s in ("a", "b") for plane in AXES for c in some(48, s, plane)]
    for seed in range(20):
        game = draw(among, 24, "medium", np.random.default_rng(seed))
        assert len({q.candidate for q in game}) == 24
        groups = Counter((q.candidate.subject, q.candidate.plane) for q in game)
        assert len(groups) == 6 and set(groups.values()) == {4}
        for group in groups:
            at = sorted(q.candidate.index for q in game if (q.candidate.subject, q.candidate.plane) == group)
            assert at[-1] - at[0] >= 10  # of 32 slices in the band
        order = [(q.candidate.subject, q.candidate.plane) for q in game]
        assert order != sorted(order)


@pytest.mark.parametrize("depth", [1, 3, 9])
def test_no_two_stacks_of_a_game_share_a_slice(depth: int) -> None:
    among = [Candidate("s", "axial", n, 40, 0.9, 10, 100) for n in range(40)]
    for seed in range(20):
        game = draw(among[:13], 20, "easy", np.random.default_rng(seed), depth)
        shown = [n for q in game for n in range(q.stack.start, q.stack.stop)]
        assert len(shown) == len(set(shown)) == depth * len(game)
        assert all(q.stack.start <= q.candidate.index < q.stack.stop and q.stack.stop <= 40 for q in game)
    everything = draw(among, 40, "easy", np.random.default_rng(0))
    assert len(everything) == len(bands(among)["easy"])  # all there are, no more


def test_the_generator_decides_everything_and_the_sides_are_fair() -> None:
    among = [c for plane in AXES for c in some(48, plane=plane)]
    games = [draw(among, 20, "hard", np.random.default_rng(seed)) for seed in range(200)]
    assert games[3] == draw(among, 20, "hard", np.random.default_rng(3)) and games[3] != games[4]
    sides = [q.truth for game in games for q in game]
    assert {q.prediction != q.truth for game in games for q in game} == {True}
    left = sides.count("left")
    assert binomtest(left, len(sides)).pvalue > 0.001
    changes = sum(a.truth != b.truth for game in games for a, b in itertools.pairwise(game))
    assert binomtest(changes, 200 * 19).pvalue > 0.001  # a side says nothing about the next one


def test_a_stack_lies_around_its_slice_and_inside_the_volume() -> None:
    assert stack(10, 1, 20) == (10, 1)
    assert stack(10, 9, 20) == (6, 9)
    assert stack(1, 9, 20) == (0, 9)
    assert stack(19, 9, 20) == (11, 9)
    assert stack(2, 9, 5) == (0, 5)
    for depth in (0, 10):
        with pytest.raises(ValueError, match="1 to 9"):
            draw(some(3), 1, "easy", np.random.default_rng(0), depth)


def test_what_is_shown_is_cut_the_same_for_both() -> None:
    truth, prediction = volumes()
    prediction[9, 11, 7] = 1
    box = common_box(truth, prediction, (1, 2, 0))
    assert box == (slice(1, 10), slice(0, 12), slice(1, 8))
    question = Question(Candidate("s", "coronal", 5, 12, 0.9, 3, 30), "easy", 4, 3, "left")
    assert shown_box(question, box) == (slice(1, 10), slice(4, 7), slice(1, 8))
    empty = np.zeros((4, 5, 6), np.uint8)
    assert common_box(empty, empty, (3, 3, 3)) == (slice(0, 4), slice(0, 5), slice(0, 6))


def test_why_by_hand() -> None:
    truth = np.array([[0, 1, 2, 3, 2, 2], [0, 1, 2, 3, 2, 2]], np.uint8)

    def said(*changes: tuple[int, int]) -> str:
        prediction = truth.copy()
        for place, value in changes:
            prediction.flat[place] = value
        return explain(truth, prediction, NAMES)

    assert said((2, 3)) == "The prediction takes 1 voxel of GM for WM here: all that differ."
    most = "The prediction takes 2 voxels of GM for WM here (67 % of all 3 that differ)."
    assert said((2, 3), (8, 3), (0, 1)) == most
    assert said((1, 0), (7, 0), (2, 3)) == "The prediction misses 2 voxels of CSF here (67 % of all 3 that differ)."
    assert said((0, 3), (6, 3)) == "The prediction marks 2 voxels of WM here that are background: all that differ."
    assert said() == "The two are the same here."


@pytest.mark.parametrize("n", [1, 2, 7, 20, 200])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_interval_is_that_of_scipy(n: int, confidence: float) -> None:
    for correct in {0, 1, n // 3, n // 2, n - 1, n}:
        expected = binomtest(correct, n).proportion_ci(confidence, "exact")
        assert exact_interval(correct, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_interval_by_hand() -> None:
    low, high = exact_interval(10, 10)
    assert high == 1.0 and low == pytest.approx(0.025 ** (1 / 10))  # p ** 10 = 0.025
    assert exact_interval(0, 10) == (0.0, pytest.approx(1 - 0.025 ** (1 / 10)))
    low, high = exact_interval(14, 20)  # by its definition: each tail has 2.5 %
    assert binom.sf(13, 20, low) == pytest.approx(0.025) and binom.cdf(14, 20, high) == pytest.approx(0.025)
    assert (round(low, 3), round(high, 3)) == (0.457, 0.881)
    assert exact_interval(0, 0) == (0.0, 1.0)
    for wrong in ((-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)):
        with pytest.raises(ValueError, match="expected"):
            exact_interval(*wrong)


def test_a_score() -> None:
    score = Score.of([True, True, False, True])
    assert score == Score(3, 4) and score.accuracy == 0.75 and score.interval == exact_interval(3, 4)
    assert math.isnan(Score.of([]).accuracy)
