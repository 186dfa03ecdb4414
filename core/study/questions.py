"""Questions of the quiz "which of these two is the ground truth?": selection of slices, difficulty, explanation.

A question is one slice, or a stack of slices around it, of a subject, shown with the reference and with the prediction.
The selection of slices is symmetric in the two label maps; the side of the reference is random. The difficulty of a
slice is the share of its labelled voxels on which the two label maps disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.formatting import format_count, format_number
from core.types import Plane

Side = Literal["left", "right"]
Difficulty = Literal["easy", "medium", "hard"]
Box = tuple[slice, slice, slice]

PLANE_AXES: dict[Plane, int] = {"axial": 2, "coronal": 1, "sagittal": 0}  # array axis perpendicular to the plane
DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "medium", "hard")
CONFIDENCE_LEVELS = (1, 2, 3, 4)  # of an answer, from a guess to certain
MAX_STACK_DEPTH = 9  # slices
SPREAD_TRIES = 6  # random candidates per question, of which the one farthest from the questions so far is taken


@dataclass(frozen=True)
class CandidateLimits:
    """Minimum content of a slice that can be a question.

    Attributes
    ----------
    foreground : int. Foreground voxels in each label map; slices with fewer offer nothing to compare.
    foreground_share : float. Foreground voxels relative to the plane's slice with the most; excludes the tips of
        structures.
    differing : int. Voxels on which the label maps disagree; slices with fewer differ too little to be judged.
    """

    foreground: int = 30
    foreground_share: float = 0.1
    differing: int = 3


DEFAULT_LIMITS = CandidateLimits()


@dataclass(frozen=True)
class Candidate:
    """A slice that can be a question.

    Attributes
    ----------
    subject : str. Subject id.
    plane : str. "axial", "coronal" or "sagittal".
    index : int. Slice index along the plane's axis.
    slices : int. Number of slices of the volume along that axis.
    dice : float. Dice of reference and prediction in this slice, pooled over the foreground classes.
    differing : int. Voxels on which the two disagree.
    foreground : int. Voxels that at least one of them labels.
    """

    subject: str
    plane: Plane
    index: int
    slices: int
    dice: float
    differing: int
    foreground: int

    @property
    def differing_share(self) -> float:
        """Differing voxels relative to the labelled ones; higher is easier."""
        return self.differing / self.foreground


@dataclass(frozen=True)
class Question:
    """A slice to ask about.

    Attributes
    ----------
    candidate : Candidate. The slice.
    difficulty : str. "easy", "medium" or "hard".
    first, depth : int. First slice and number of slices of the stack that is shown.
    truth : str. Side of the reference, "left" or "right".
    """

    candidate: Candidate
    difficulty: Difficulty
    first: int
    depth: int
    truth: Side

    @property
    def stack(self) -> slice:
        """Slices that are shown, along the plane's axis."""
        return slice(self.first, self.first + self.depth)

    @property
    def prediction(self) -> Side:
        """Side of the prediction."""
        return "right" if self.truth == "left" else "left"


def find_candidates(
    truth: np.ndarray,
    prediction: np.ndarray,
    subject: str = "",
    planes: Sequence[Plane] = tuple(PLANE_AXES),
    limits: CandidateLimits = DEFAULT_LIMITS,
) -> list[Candidate]:
    """Select the slices of a subject that can be questions, in order of plane and index.

    Parameters
    ----------
    truth, prediction : ndarray, uint8, shape (i, j, k). Class indices, 0 is the background.
    subject : str. Subject id.
    planes : sequence of str. Planes to search.
    limits : CandidateLimits. Minimum content of a slice.

    Raises
    ------
    ValueError
        If the shapes differ or are not three-dimensional.
    """
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise ValueError(f"expected two volumes of one shape, got {truth.shape} and {prediction.shape}")
    candidates = []
    unequal = truth != prediction
    for plane in planes:
        axis = PLANE_AXES[plane]
        in_plane = tuple(a for a in range(3) if a != axis)
        truth_voxels, prediction_voxels = (np.count_nonzero(v, axis=in_plane) for v in (truth, prediction))
        differing = np.count_nonzero(unequal, axis=in_plane)
        foreground = np.count_nonzero((truth > 0) | (prediction > 0), axis=in_plane)
        agreeing = foreground - differing  # background voxels of both never differ
        smaller = np.minimum(truth_voxels, prediction_voxels)
        least_foreground = max(limits.foreground, limits.foreground_share * smaller.max(initial=0), 1)
        for index in np.flatnonzero((smaller >= least_foreground) & (differing >= max(1, limits.differing))):
            candidates.append(
                Candidate(
                    subject=subject,
                    plane=plane,
                    index=int(index),
                    slices=truth.shape[axis],
                    dice=float(2 * agreeing[index] / (truth_voxels[index] + prediction_voxels[index])),
                    differing=int(differing[index]),
                    foreground=int(foreground[index]),
                )
            )
    return candidates


def split_by_difficulty(candidates: Sequence[Candidate]) -> dict[Difficulty, list[Candidate]]:
    """Divide candidates into thirds by their differing share, the highest being easy.

    Fewer than three candidates are listed under every difficulty.
    """
    if len(candidates) < len(DIFFICULTIES):
        return {difficulty: list(candidates) for difficulty in DIFFICULTIES}
    ordered = sorted(candidates, key=lambda c: (-c.differing_share, c.subject, c.plane, c.index))
    cuts = [round(len(ordered) * n / len(DIFFICULTIES)) for n in range(len(DIFFICULTIES) + 1)]
    return {d: ordered[a:b] for d, a, b in zip(DIFFICULTIES, cuts[:-1], cuts[1:], strict=True)}


def draw_questions(
    candidates: Sequence[Candidate],
    count: int,
    difficulty: Difficulty,
    generator: np.random.Generator,
    depth: int = 1,
) -> list[Question]:
    """Draw the questions of a game, spread over subjects, planes and positions.

    The stacks of a game do not overlap, because an answer reveals the reference of its stack. The result is shorter
    than ``count`` where the slices do not suffice, and empty without candidates.

    Parameters
    ----------
    candidates : sequence of Candidate. Slices of all difficulties.
    count : int. Number of questions.
    difficulty : str. "easy", "medium" or "hard".
    generator : numpy Generator. Source of slices, order and sides; the same state gives the same game.
    depth : int. Slices of each stack, 1 to 9, reduced where the volume has fewer.

    Raises
    ------
    ValueError
        If ``depth`` is out of range.
    """
    if not 1 <= depth <= MAX_STACK_DEPTH:
        raise ValueError(f"expected a stack of 1 to {MAX_STACK_DEPTH} slices, got {depth}")
    remaining: dict[tuple[str, Plane], list[Candidate]] = {}
    for candidate in split_by_difficulty(candidates)[difficulty]:
        remaining.setdefault((candidate.subject, candidate.plane), []).append(candidate)
    chosen: dict[tuple[str, Plane], list[Candidate]] = {group: [] for group in remaining}
    drawn: list[Candidate] = []
    while remaining and len(drawn) < count:
        groups = list(remaining)
        for number in generator.permutation(len(groups)):
            group = groups[number]
            remaining[group] = free = [c for c in remaining[group] if _is_disjoint(c, chosen[group], depth)]
            if not free:
                del remaining[group]
            elif len(drawn) < count:
                candidate = _draw_distant(free, chosen[group], generator)
                chosen[group].append(candidate)
                drawn.append(candidate)
    sides: tuple[Side, Side] = ("left", "right")
    return [
        Question(c, difficulty, *stack_around(c.index, depth, c.slices), truth=sides[generator.integers(2)])
        for c in (drawn[number] for number in generator.permutation(len(drawn)))
    ]


def stack_around(index: int, depth: int, slices: int) -> tuple[int, int]:
    """First slice and depth of the stack around a slice, shifted inside the volume at its ends."""
    depth = min(depth, slices)
    return min(max(index - depth // 2, 0), slices - depth), depth


def joint_foreground_box(truth: np.ndarray, prediction: np.ndarray, margin: Sequence[int]) -> Box:
    """Bounding box of the foreground of both label maps; the whole volume without foreground.

    The result is symmetric in the two label maps, so that the crop does not reveal which is the reference.

    Parameters
    ----------
    truth, prediction : ndarray, uint8, shape (i, j, k). Class indices.
    margin : sequence of int. Margin along i, j, k in voxels, clipped at the volume.
    """
    foreground = (truth > 0) | (prediction > 0)
    sides = []
    for axis in range(3):
        occupied = np.flatnonzero(foreground.any(axis=tuple(a for a in range(3) if a != axis)))
        size = foreground.shape[axis]
        first, last = (int(occupied[0]), int(occupied[-1])) if occupied.size else (0, size - 1)
        sides.append(slice(max(0, first - margin[axis]), min(size, last + 1 + margin[axis])))
    return sides[0], sides[1], sides[2]


def question_box(question: Question, common: Box) -> Box:
    """Part of the volume that a question shows: its stack within the box common to all questions of the subject."""
    sides = list(common)
    sides[PLANE_AXES[question.candidate.plane]] = question.stack
    return sides[0], sides[1], sides[2]


def explain_difference(truth: np.ndarray, prediction: np.ndarray, names: Sequence[str]) -> str:
    """Describe the most frequent confusion of a slice in one sentence.

    Parameters
    ----------
    truth, prediction : ndarray, uint8, any shape. Class indices of the slice.
    names : sequence of str. Class names, background first.
    """
    classes = len(names)
    pairs = truth.astype(np.int64).ravel() * classes + prediction.ravel()
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    np.fill_diagonal(confusion, 0)
    differing = int(confusion.sum())
    if not differing:
        return "The two are the same here."
    true, predicted = (int(n) for n in np.unravel_index(confusion.argmax(), confusion.shape))
    count = int(confusion[true, predicted])
    voxels = format_count(count, "voxel")
    if predicted == 0:
        error = f"misses {voxels} of {names[true]} here"
    elif true == 0:
        error = f"marks {voxels} of {names[predicted]} here that are {names[0]}"
    else:
        error = f"takes {voxels} of {names[true]} for {names[predicted]} here"
    share = f" ({format_number(100 * count / differing, 0)} % of all {differing:,} that differ)."
    return f"The prediction {error}" + (share if count < differing else ": all that differ.")


def _is_disjoint(candidate: Candidate, others: Iterable[Candidate], depth: int) -> bool:
    """Whether the candidate's stack shares no slice with those of others in the same subject and plane."""
    first, size = stack_around(candidate.index, depth, candidate.slices)
    return all(abs(first - stack_around(other.index, depth, other.slices)[0]) >= size for other in others)


def _draw_distant(free: Sequence[Candidate], chosen: Sequence[Candidate], generator: np.random.Generator) -> Candidate:
    """The candidate farthest from the chosen ones, out of a few drawn at random."""
    tries = [free[n] for n in generator.integers(len(free), size=SPREAD_TRIES)]
    return max(tries, key=lambda c: min((abs(c.index - other.index) for other in chosen), default=0))
