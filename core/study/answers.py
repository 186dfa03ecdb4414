"""The answers of the quiz: kept one by one the moment they are given, and what they come to.

They live in the database beside the index of runs and nowhere else; making that index again leaves them alone.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from core.errors import RunError
from core.runs.store.index import open_answers
from core.runs.store.schema import ANSWERS
from core.study.questions import DIFFICULTIES, SURE, Score

ALL = "all"  # instead of a game: every answer in the database


@dataclass(frozen=True)
class Answer:
    """One answer, with all that a later analysis needs.

    Attributes
    ----------
    game : id of the game.
    number : of the question in the game, from 1.
    questions : that the game has.
    model : the run's id, or the name of the ready-made model.
    epoch, step : of the checkpoint that made the prediction.
    data, subject : of which data set and subject the slice is.
    plane, slice : "axial", "coronal" or "sagittal"; the slice in question, in canonical order.
    first_slice, slices : the stack that was shown.
    difficulty, dice, differing, foreground : of the slice, see :class:`core.study.questions.Candidate`.
    truth_side, chosen_side : "left" or "right".
    correct : whether they are the same.
    confidence : 1 (a guess) to 4 (certain).
    seconds : from the question on the screen to the answer at the server.
    answered_at : Unix seconds.
    why : the line that explained the difference.
    """

    game: str
    number: int
    questions: int
    model: str
    epoch: int
    step: int
    data: str
    subject: str
    plane: str
    slice: int
    first_slice: int
    slices: int
    difficulty: str
    dice: float
    differing: int
    foreground: int
    truth_side: str
    chosen_side: str
    correct: bool
    confidence: int
    seconds: float
    answered_at: float
    why: str


@dataclass(frozen=True)
class Report:
    """What answers come to; ``seconds`` is the median time of an answer, ``None`` without any."""

    study: str
    games: int
    score: Score
    by_difficulty: dict[str, Score]
    by_confidence: dict[int, Score]
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """The form that ``quiz report --json`` prints; NaN still in it."""
        return {
            "study": self.study,
            "games": self.games,
            **score_json(self.score),
            "by_difficulty": {name: score_json(score) for name, score in self.by_difficulty.items()},
            "by_confidence": {str(sure): score_json(score) for sure, score in self.by_confidence.items()},
            "median_seconds": self.seconds,
        }


def score_json(score: Score) -> dict[str, Any]:
    """A score with its exact 95 % interval."""
    low, high = score.interval
    interval = {"confidence": 0.95, "low": low, "high": high, "method": "Clopper-Pearson"}
    return {"n": score.n, "correct": score.correct, "accuracy": score.accuracy, "interval": interval}


def keep_answer(root: Path, answer: Answer) -> None:
    """Write an answer; it is on the disk when this returns.

    Raises
    ------
    RunError
        If the question has been answered before, or the database cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{root}: expected a folder to keep answers in: {error.strerror or error}") from error
    with open_answers(root) as connection:
        try:
            connection.execute(ANSWERS.insert().values(**asdict(answer)))
        except IntegrityError as error:
            raise RunError(f"question {answer.number} of this game has been answered already") from error


def read_answers(root: Path, study: str = ALL) -> list[Answer]:
    """The answers of a game in the order of its questions, or those of all games, oldest first.

    Parameters
    ----------
    study : a game's id, an unambiguous beginning of it, or "all".

    Raises
    ------
    RunError
        If no game or more than one fits, or the database cannot be read.
    """
    found: list[Answer] = []
    if root.is_dir() or os.environ.get("SEGMENTARIUM_DATABASE"):
        query = sa.select(ANSWERS).order_by(ANSWERS.c.answered_at, ANSWERS.c.game, ANSWERS.c.number)
        if study != ALL:
            query = query.where(ANSWERS.c.game.startswith(study, autoescape=True))
        with open_answers(root, reading=True) as connection:
            found = [Answer(**row) for row in connection.execute(query).mappings()]
    if study == ALL:
        return found
    games = sorted({answer.game for answer in found})
    if study in games:
        games = [study]
    if not games or not study:
        raise RunError(f"expected the id of a game, its beginning, or {ALL!r}; got {study!r}, which fits no game")
    if len(games) > 1:
        raise RunError(f"{study!r} fits {len(games)} games: {', '.join(games[:8])}; give more of the id")
    return sorted((a for a in found if a.game == games[0]), key=lambda a: a.number)


def report(study: str, answers: Sequence[Answer]) -> Report:
    """Right answers in all, by difficulty and by how sure the reader was; parts without answers are left out."""
    return Report(
        study,
        len({answer.game for answer in answers}),
        Score.of(answer.correct for answer in answers),
        _by(answers, DIFFICULTIES, lambda answer: answer.difficulty),
        _by(answers, SURE, lambda answer: answer.confidence),
        statistics.median(answer.seconds for answer in answers) if answers else None,
    )


def streak(answers: Iterable[Answer]) -> int:
    """How many of the last answers were right without a wrong one between."""
    length = 0
    for answer in answers:
        length = length + 1 if answer.correct else 0
    return length


def _by(answers: Sequence[Answer], parts: Iterable[Any], of: Callable[[Answer], Any]) -> dict[Any, Score]:
    scores = {part: Score.of(a.correct for a in answers if of(a) == part) for part in parts}
    return {part: score for part, score in scores.items() if score.n}
