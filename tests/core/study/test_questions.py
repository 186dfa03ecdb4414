"""Questions of the quiz: selection of slices, difficulty, stacks, explanation."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from core.study.questions import (
    DIFFICULTIES,
    PLANE_AXES,
    Candidate,
    CandidateLimits,
    Question,
    draw_questions,
    explain_difference,
    find_candidates,
    joint_foreground_box,
    question_box,
    split_by_difficulty,
    stack_around,
)

NAMES = ("background", "CSF", "GM", "WM")


def make_volumes() -> tuple[np.ndarray, np.ndarray]:
    """A box of class 1 with a core of class 2, and a prediction with three known errors."""
    truth = np.zeros((10, 12, 8), np.uint8)
    truth[2:8, 2:10, 1:7] = 1
    truth[4:6, 4:8, 2:6] = 2
    prediction = truth.copy()
    prediction[4:6, 4:6, 3] = 1  # 4 voxels of class 2 predicted as 1, in slice k = 3
    prediction[2, 2:10, 4] = 0  # 8 voxels missed, in slice k = 4
    prediction[:, :, 6] = 0  # empty slice k = 6
    return truth, prediction


def make_candidates(count: int, subject: str = "s", plane: Any = "axial", slices: int = 100) -> list[Candidate]:
    """Candidates in every second slice, the first the easiest."""
    return [Candidate(subject, plane, 2 * n, slices, 0.9, 100 - n, 200) for n in range(count)]


def test_candidates_equal_hand_computed_values() -> None:
    truth, prediction = make_volumes()
    candidates = find_candidates(truth, prediction, "s", ("axial",), limits=CandidateLimits(foreground=10, differing=1))
    assert [(c.index, c.differing, c.foreground) for c in candidates] == [(3, 4, 48), (4, 8, 48)]
    assert [c.dice for c in candidates] == [pytest.approx(2 * 44 / (48 + 48)), pytest.approx(2 * 40 / (48 + 40))]
    assert {(c.subject, c.plane, c.slices) for c in candidates} == {("s", "axial", 8)}
    assert candidates[1].differing_share == pytest.approx(8 / 48)


def test_empty_identical_and_nearly_empty_slices_are_excluded() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        truth = np.zeros((30, 28, 26), np.uint8)
        truth[5:25, 5:23, 4:22] = generator.integers(1, 4, (20, 18, 18))
        truth[:, :, 20] = 0
        truth[12:16, 12:16, 23] = 1  # 16 voxels only
        prediction = np.where(generator.random(truth.shape) < 0.9, truth, generator.integers(0, 4, truth.shape))
        prediction[:, 7, :] = 0
        prediction[:, :, 10] = truth[:, :, 10]
        candidates = find_candidates(truth, prediction.astype(np.uint8))
        assert {c.plane for c in candidates} == set(PLANE_AXES)
        for c in candidates:
            a, b = (v.take(c.index, PLANE_AXES[c.plane]) for v in (truth, prediction))
            assert min((a > 0).sum(), (b > 0).sum()) >= 30
            assert (a != b).sum() == c.differing >= 3
            assert ((a > 0) | (b > 0)).sum() == c.foreground
            same = ((a == b) & (a > 0)).sum()
            assert c.dice == pytest.approx(2 * same / ((a > 0).sum() + (b > 0).sum()))
        selected = {(c.plane, c.index) for c in candidates}
        assert not selected & {("axial", 10), ("axial", 20), ("axial", 23), ("coronal", 7)}


def test_selection_is_symmetric_in_reference_and_prediction() -> None:
    truth, prediction = make_volumes()
    forward, swapped = (
        find_candidates(a, b, limits=CandidateLimits(foreground=1, differing=1))
        for a, b in ((truth, prediction), (prediction, truth))
    )
    assert forward == swapped and len(forward) > 5
    assert joint_foreground_box(truth, prediction, (1, 1, 1)) == joint_foreground_box(prediction, truth, (1, 1, 1))


def test_empty_volumes_give_no_questions() -> None:
    empty = np.zeros((5, 5, 5), np.uint8)
    assert find_candidates(empty, empty) == [] and find_candidates(empty, empty + 1) == []
    assert draw_questions([], 10, "easy", np.random.default_rng(0)) == []
    with pytest.raises(ValueError, match="one shape"):
        find_candidates(empty, empty[1:])


def test_difficulties_are_thirds_of_the_differing_share() -> None:
    candidates = make_candidates(30)
    np.random.default_rng(1).shuffle(candidates)  # type: ignore[arg-type]
    parts = split_by_difficulty(candidates)
    assert [len(parts[d]) for d in DIFFICULTIES] == [10, 10, 10]
    assert min(c.differing_share for c in parts["easy"]) > max(c.differing_share for c in parts["medium"])
    assert min(c.differing_share for c in parts["medium"]) > max(c.differing_share for c in parts["hard"])
    for difficulty in DIFFICULTIES:
        drawn = draw_questions(candidates, 10, difficulty, np.random.default_rng(0))
        assert {q.candidate for q in drawn} == set(parts[difficulty])
        assert {q.difficulty for q in drawn} == {difficulty}
    assert split_by_difficulty(candidates[:2]) == dict.fromkeys(DIFFICULTIES, candidates[:2])


def test_questions_are_spread_over_subjects_planes_and_positions() -> None:
    candidates = [c for s in ("a", "b") for plane in PLANE_AXES for c in make_candidates(48, s, plane)]
    for seed in range(20):
        game = draw_questions(candidates, 24, "medium", np.random.default_rng(seed))
        assert len({q.candidate for q in game}) == 24
        groups = Counter((q.candidate.subject, q.candidate.plane) for q in game)
        assert len(groups) == 6 and set(groups.values()) == {4}
        for group in groups:
            at = sorted(q.candidate.index for q in game if (q.candidate.subject, q.candidate.plane) == group)
            assert at[-1] - at[0] >= 10  # of 32 slices per group
        order = [(q.candidate.subject, q.candidate.plane) for q in game]
        assert order != sorted(order)


@pytest.mark.parametrize("depth", [1, 3, 9])
def test_stacks_of_a_game_do_not_overlap(depth: int) -> None:
    candidates = [Candidate("s", "axial", n, 40, 0.9, 10, 100) for n in range(40)]
    for seed in range(20):
        game = draw_questions(candidates[:13], 20, "easy", np.random.default_rng(seed), depth)
        shown = [n for q in game for n in range(q.stack.start, q.stack.stop)]
        assert len(shown) == len(set(shown)) == depth * len(game)
        assert all(q.stack.start <= q.candidate.index < q.stack.stop and q.stack.stop <= 40 for q in game)
    questions = draw_questions(candidates, 40, "easy", np.random.default_rng(0))
    assert len(questions) == len(split_by_difficulty(candidates)["easy"])  # as many as there are


@pytest.mark.slow
def test_games_are_reproducible_and_sides_are_fair() -> None:
    candidates = [c for plane in PLANE_AXES for c in make_candidates(48, plane=plane)]
    games = [draw_questions(candidates, 20, "hard", np.random.default_rng(seed)) for seed in range(200)]
    assert games[3] == draw_questions(candidates, 20, "hard", np.random.default_rng(3)) and games[3] != games[4]
    sides = [q.truth for game in games for q in game]
    assert {q.prediction != q.truth for game in games for q in game} == {True}
    left = sides.count("left")
    assert binomtest(left, len(sides)).pvalue > 0.001
    changes = sum(a.truth != b.truth for game in games for a, b in itertools.pairwise(game))
    assert binomtest(changes, 200 * 19).pvalue > 0.001  # consecutive sides are independent


def test_stack_surrounds_its_slice_inside_the_volume() -> None:
    assert stack_around(10, 1, 20) == (10, 1)
    assert stack_around(10, 9, 20) == (6, 9)
    assert stack_around(1, 9, 20) == (0, 9)
    assert stack_around(19, 9, 20) == (11, 9)
    assert stack_around(2, 9, 5) == (0, 5)
    for depth in (0, 10):
        with pytest.raises(ValueError, match="1 to 9"):
            draw_questions(make_candidates(3), 1, "easy", np.random.default_rng(0), depth)


def test_crop_is_the_same_for_reference_and_prediction() -> None:
    truth, prediction = make_volumes()
    prediction[9, 11, 7] = 1
    box = joint_foreground_box(truth, prediction, (1, 2, 0))
    assert box == (slice(1, 10), slice(0, 12), slice(1, 8))
    question = Question(Candidate("s", "coronal", 5, 12, 0.9, 3, 30), "easy", 4, 3, "left")
    assert question_box(question, box) == (slice(1, 10), slice(4, 7), slice(1, 8))
    empty = np.zeros((4, 5, 6), np.uint8)
    assert joint_foreground_box(empty, empty, (3, 3, 3)) == (slice(0, 4), slice(0, 5), slice(0, 6))


def test_explanation_names_the_most_frequent_confusion() -> None:
    truth = np.array([[0, 1, 2, 3, 2, 2], [0, 1, 2, 3, 2, 2]], np.uint8)

    def explanation(*changes: tuple[int, int]) -> str:
        prediction = truth.copy()
        for place, value in changes:
            prediction.flat[place] = value
        return explain_difference(truth, prediction, NAMES)

    assert explanation((2, 3)) == "The prediction takes 1 voxel of GM for WM here: all that differ."
    most = "The prediction takes 2 voxels of GM for WM here (67 % of all 3 that differ)."
    assert explanation((2, 3), (8, 3), (0, 1)) == most
    assert (
        explanation((1, 0), (7, 0), (2, 3)) == "The prediction misses 2 voxels of CSF here (67 % of all 3 that differ)."
    )
    assert (
        explanation((0, 3), (6, 3)) == "The prediction marks 2 voxels of WM here that are background: all that differ."
    )
    assert explanation() == "The two are the same here."
