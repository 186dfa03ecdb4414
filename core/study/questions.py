"""The quiz "which of these two is the ground truth?": its questions, and what a score says.

A question is one slice (or a stack around it) of a subject, drawn with the truth and with a prediction. Which slices
are asked is decided from the two segmentations alone; which side shows the truth is a coin that the caller's generator
tosses. How hard a question is, is measured: by the share of its marked voxels on which the two disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaincinv

Plane = Literal["axial", "coronal", "sagittal"]
Side = Literal["left", "right"]
Difficulty = Literal["easy", "medium", "hard"]
Box = tuple[slice, slice, slice]

AXES: dict[Plane, int] = {"axial": 2, "coronal": 1, "sagittal": 0}  # the axis that a plane's slices follow
DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "medium", "hard")
SURE = (1, 2, 3, 4)  # how sure a reader may be, from a guess to certain
MOST_SLICES = 9  # of a stack

LEAST_FOREGROUND = 30  # voxels that either segmentation marks; with fewer there is nothing to compare
LEAST_SHARE = 0.1  # of what the fullest slice of the plane marks; below lie the tips of structures
LEAST_DIFFERING = 3  # voxels; with fewer the question would be a search
TRIES = 6  # places thrown for each question, of which the one farthest from those already asked is taken


@dataclass(frozen=True)
class Candidate:
    """A slice that can be asked.

    Attributes
    ----------
    subject : whose slice it is.
    plane, index : which slice, counted from 0 along the plane's axis.
    slices : how many the volume has along that axis.
    dice : overlap of truth and prediction in this slice, all classes but the background together: twice the voxels
        that both give the same class, by those that either marks.
    differing : voxels to which they give different classes.
    foreground : voxels that at least one of them marks.
    """

    subject: str
    plane: Plane
    index: int
    slices: int
    dice: float
    differing: int
    foreground: int

    @property
    def share(self) -> float:
        """The differing voxels as a share of the marked ones: the more, the easier."""
        return self.differing / self.foreground


@dataclass(frozen=True)
class Question:
    """A slice to ask, the stack it is shown in, and the side on which the truth is."""

    candidate: Candidate
    difficulty: Difficulty
    first: int
    depth: int
    truth: Side

    @property
    def stack(self) -> slice:
        """The slices that are shown, along the plane's axis."""
        return slice(self.first, self.first + self.depth)

    @property
    def prediction(self) -> Side:
        return "right" if self.truth == "left" else "left"


@dataclass(frozen=True)
class Score:
    """Right answers out of n."""

    correct: int
    n: int

    @classmethod
    def of(cls, answers: Iterable[bool]) -> Score:
        """Count answers, each true where it was right."""
        given = list(answers)
        return cls(sum(given), len(given))

    @property
    def accuracy(self) -> float:
        """The share of right answers; NaN without any answer."""
        return self.correct / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the accuracy."""
        return exact_interval(self.correct, self.n)


def candidates(
    truth: np.ndarray,
    prediction: np.ndarray,
    subject: str = "",
    planes: Sequence[Plane] = tuple(AXES),
    least_foreground: int = LEAST_FOREGROUND,
    least_share: float = LEAST_SHARE,
    least_differing: int = LEAST_DIFFERING,
) -> list[Candidate]:
    """The slices of a subject that can be asked, plane by plane in order.

    Left out are slices in which truth or prediction marks nothing or next to nothing (``least_foreground`` voxels, and
    ``least_share`` of what the fullest slice of the plane marks), and those in which they are the same or nearly so.

    Parameters
    ----------
    truth, prediction : class indices, uint8, shape (i, j, k), 0 is the background.
    """
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise ValueError(f"expected two volumes of one shape, got {truth.shape} and {prediction.shape}")
    found = []
    differs = truth != prediction
    for plane in planes:
        axis = AXES[plane]
        across = tuple(a for a in range(3) if a != axis)
        in_truth, in_prediction = (np.count_nonzero(v, axis=across) for v in (truth, prediction))
        differing = np.count_nonzero(differs, axis=across)
        either = np.count_nonzero((truth > 0) | (prediction > 0), axis=across)
        agreed = either - differing  # where neither marks anything, they do not differ
        marked = np.minimum(in_truth, in_prediction)
        enough = max(least_foreground, least_share * marked.max(initial=0), 1)
        for index in np.flatnonzero((marked >= enough) & (differing >= max(1, least_differing))):
            dice = 2 * agreed[index] / (in_truth[index] + in_prediction[index])
            numbers = float(dice), int(differing[index]), int(either[index])
            found.append(Candidate(subject, plane, int(index), truth.shape[axis], *numbers))
    return found


def bands(among: Sequence[Candidate]) -> dict[Difficulty, list[Candidate]]:
    """Three parts of equal size by the share that differs: the most is easy. With fewer than three all are in each."""
    if len(among) < len(DIFFICULTIES):
        return {difficulty: list(among) for difficulty in DIFFICULTIES}
    ordered = sorted(among, key=lambda c: (-c.share, c.subject, c.plane, c.index))
    cuts = [round(len(ordered) * n / len(DIFFICULTIES)) for n in range(len(DIFFICULTIES) + 1)]
    return {d: ordered[a:b] for d, a, b in zip(DIFFICULTIES, cuts[:-1], cuts[1:], strict=True)}


def draw(
    among: Sequence[Candidate], count: int, difficulty: Difficulty, generator: np.random.Generator, depth: int = 1
) -> list[Question]:
    """Draw the questions of a game, spread over subjects, planes and positions.

    No two stacks of a game overlap: an answer shows the truth of its stack. Where slices run out there are fewer
    questions than asked for; without candidates there are none.

    Parameters
    ----------
    depth : slices of each stack, 1 to 9 (fewer where the volume has fewer).
    generator : decides slices, order and sides; the same one draws the same game.
    """
    if not 1 <= depth <= MOST_SLICES:
        raise ValueError(f"expected a stack of 1 to {MOST_SLICES} slices, got {depth}")
    groups: dict[tuple[str, Plane], list[Candidate]] = {}
    for candidate in bands(among)[difficulty]:
        groups.setdefault((candidate.subject, candidate.plane), []).append(candidate)
    taken: dict[tuple[str, Plane], list[Candidate]] = {key: [] for key in groups}
    drawn: list[Candidate] = []
    while groups and len(drawn) < count:
        keys = list(groups)
        for number in generator.permutation(len(keys)):
            key = keys[number]
            groups[key] = left = [c for c in groups[key] if _apart(c, taken[key], depth)]
            if not left:
                del groups[key]
            elif len(drawn) < count:
                chosen = _far_from(taken[key], left, generator)
                taken[key].append(chosen)
                drawn.append(chosen)
    sides: tuple[Side, Side] = ("left", "right")
    return [
        Question(c, difficulty, *stack(c.index, depth, c.slices), truth=sides[generator.integers(2)])
        for c in (drawn[number] for number in generator.permutation(len(drawn)))
    ]


def stack(index: int, depth: int, slices: int) -> tuple[int, int]:
    """First slice and number of slices of a stack around a slice; at the ends of the volume it is moved inside."""
    depth = min(depth, slices)
    return min(max(index - depth // 2, 0), slices - depth), depth


def common_box(truth: np.ndarray, prediction: np.ndarray, margin: Sequence[int]) -> Box:
    """The part of a volume that is shown: the box around what either marks, with a margin in voxels along each axis.

    It is the same whichever of the two is given first, so that nothing follows from what is cut away. Without any mark
    it is the whole volume.
    """
    either = (truth > 0) | (prediction > 0)
    sides = []
    for axis in range(3):
        marked = np.flatnonzero(either.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = (marked[0], marked[-1]) if marked.size else (0, either.shape[axis] - 1)
        sides.append(slice(max(0, int(first) - margin[axis]), min(either.shape[axis], int(last) + 1 + margin[axis])))
    return sides[0], sides[1], sides[2]


def shown_box(question: Question, common: Box) -> Box:
    """The part of a volume that a question shows: its stack, within the part that all questions of a subject share."""
    sides = list(common)
    sides[AXES[question.candidate.plane]] = question.stack
    return sides[0], sides[1], sides[2]


def explain(truth: np.ndarray, prediction: np.ndarray, names: Sequence[str]) -> str:
    """One line on what gives a slice away: the most frequent confusion.

    Parameters
    ----------
    truth, prediction : class indices of the slice, uint8, any shape.
    names : of the classes, the background first.
    """
    classes = len(names)
    pairs = truth.astype(np.int64).ravel() * classes + prediction.ravel()
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    np.fill_diagonal(confusion, 0)
    differing = int(confusion.sum())
    if not differing:
        return "The two are the same here."
    true, said = (int(n) for n in np.unravel_index(confusion.argmax(), confusion.shape))
    count = int(confusion[true, said])
    voxels = f"{count:,} voxel{'s' * (count != 1)}"
    share = f"{100 * count / differing:.0f} % of all {differing:,} that differ"
    if said == 0:
        what = f"misses {voxels} of {names[true]} here"
    elif true == 0:
        what = f"marks {voxels} of {names[said]} here that are {names[0]}"
    else:
        what = f"takes {voxels} of {names[true]} for {names[said]} here"
    return f"The prediction {what}" + (f" ({share})." if count < differing else ": all that differ.")


def exact_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of Clopper and Pearson (Biometrika 1934) for a share, here of right answers.

    The lower end is the share at which ``correct`` or more of n have probability (1 - confidence) / 2, the upper end
    the one at which ``correct`` or fewer have it. Without any answer it is 0 to 1.
    """
    if not 0 <= correct <= n or not 0 < confidence < 1:
        raise ValueError(f"expected 0 to n right answers and 0 < confidence < 1, got {correct} of {n}, {confidence}")
    tail = (1 - confidence) / 2
    low = float(betaincinv(correct, n - correct + 1, tail)) if correct else 0.0
    high = float(betaincinv(correct + 1, n - correct, 1 - tail)) if correct < n else 1.0
    return low, high


def _apart(candidate: Candidate, taken: Iterable[Candidate], depth: int) -> bool:
    """Whether its stack shares no slice with those that are taken from the same subject and plane."""
    first, size = stack(candidate.index, depth, candidate.slices)
    return all(abs(first - stack(other.index, depth, other.slices)[0]) >= size for other in taken)


def _far_from(taken: Sequence[Candidate], left: Sequence[Candidate], generator: np.random.Generator) -> Candidate:
    """One of those that are left, at random, but rather far from those that are taken."""
    thrown = [left[n] for n in generator.integers(len(left), size=TRIES)]
    return max(thrown, key=lambda c: min((abs(c.index - other.index) for other in taken), default=0))
