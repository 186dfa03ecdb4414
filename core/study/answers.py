"""Answers of the quiz: written to the database one by one, read back, summarised.

Answers are stored in the database of the index of runs; rebuilding the index keeps them. Where that database is a local
copy, because its root is on a network file system, they are files of the root first (:mod:`core.study.answer_files`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from core.errors import RunError
from core.runs.store.database import is_local_copy, is_shared, open_answers
from core.runs.store.rows import upsert
from core.runs.store.schema import ANSWERS
from core.study.answer_files import FOLDER, append_answer, earlier_answers, new_answers
from core.study.questions import CONFIDENCE_LEVELS, DIFFICULTIES
from core.study.statistics import Score

ALL_GAMES = "all"  # selects the answers of every game


class UnknownGameError(RunError):
    """No answers of a game are stored."""


@dataclass(frozen=True)
class Answer:
    """One answer with the facts for a later analysis; the fields are the columns of the database.

    Attributes
    ----------
    game : str. Id of the game.
    number, questions : int. Number of the question, from 1, and of all questions of the game.
    model : str. Run id, or name of the ready-made model.
    epoch, step : int. Progress of the checkpoint that made the prediction.
    data, subject : str. Data set and subject id.
    plane : str. "axial", "coronal" or "sagittal".
    slice : int. Slice in question, in canonical order.
    first_slice, slices : int. Stack that was shown.
    difficulty, dice, differing, foreground : properties of the slice, see :class:`core.study.questions.Candidate`.
    truth_side, chosen_side : str. "left" or "right".
    correct : bool. Whether the chosen side is the reference.
    confidence : int. 1 (a guess) to 4 (certain).
    seconds : float. Time from the display of the question to the arrival of the answer at the server.
    answered_at : float. Unix time in seconds.
    why : str. Explanation of the difference that was shown after the answer.
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
class StudyReport:
    """Summary of answers.

    Attributes
    ----------
    study : str. Id of the game, or "all".
    games : int. Number of games.
    score : Score. All answers.
    by_difficulty, by_confidence : dict. Scores by difficulty and by confidence; parts without answers are absent.
    median_seconds : float or None. Median time of an answer; ``None`` without answers.
    """

    study: str
    games: int
    score: Score
    by_difficulty: dict[str, Score]
    by_confidence: dict[int, Score]
    median_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """The form that ``quiz report --json`` prints; undefined numbers are NaN."""
        return {
            "study": self.study,
            "games": self.games,
            **score_json(self.score),
            "by_difficulty": {name: score_json(score) for name, score in self.by_difficulty.items()},
            "by_confidence": {str(level): score_json(score) for level, score in self.by_confidence.items()},
            "median_seconds": self.median_seconds,
        }


def score_json(score: Score) -> dict[str, Any]:
    """A score with its exact 95 % interval as JSON values."""
    low, high = score.interval
    interval = {"confidence": 0.95, "low": low, "high": high, "method": "Clopper-Pearson"}
    return {"n": score.n, "correct": score.correct, "accuracy": score.accuracy, "interval": interval}


def save_answer(root: Path, answer: Answer) -> None:
    """Store an answer durably: it is on the disk when the function returns.

    Raises
    ------
    RunError
        If the question has an answer already, or the database cannot be written.
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
        if is_local_copy(root):
            append_answer(root, asdict(answer))


def read_answers(root: Path, study: str = ALL_GAMES) -> list[Answer]:
    """Read the answers of a game in the order of its questions, or those of all games, oldest first.

    Parameters
    ----------
    root : Path. Folder of runs.
    study : str. Game id, an unambiguous prefix of it, or "all".

    Raises
    ------
    UnknownGameError
        If no game matches.
    RunError
        If more than one matches, or the database cannot be read.
    """
    answers: list[Answer] = []
    if root.is_dir() or is_shared():
        query = sa.select(ANSWERS).order_by(ANSWERS.c.answered_at, ANSWERS.c.game, ANSWERS.c.number)
        if study != ALL_GAMES:
            query = query.where(ANSWERS.c.game.startswith(study, autoescape=True))
        if is_local_copy(root) or (root / FOLDER).is_dir():  # also of a root that was moved to a local disk since
            _read_files(root)
        with open_answers(root, reading=True) as connection:
            answers = [Answer(**row) for row in connection.execute(query).mappings()]
    if study == ALL_GAMES:
        return answers
    games = sorted({answer.game for answer in answers})
    if study in games:
        games = [study]
    if not games or not study:
        raise UnknownGameError(
            f"expected the id of a game, its beginning, or {ALL_GAMES!r}; got {study!r}, which fits no game"
        )
    if len(games) > 1:
        raise RunError(f"{study!r} fits {len(games)} games: {', '.join(games[:8])}; give more of the id")
    return sorted((a for a in answers if a.game == games[0]), key=lambda a: a.number)


def _read_files(root: Path) -> None:
    """Bring the database up to date with the answers that the root holds as files."""
    with open_answers(root) as connection:
        names = [column.name for column in ANSWERS.c]
        earlier = earlier_answers(root, connection, names) if is_local_copy(root) else []
        for values in (*earlier, *new_answers(root, connection, names)):
            upsert(connection, ANSWERS, values)


def summarise(study: str, answers: Sequence[Answer]) -> StudyReport:
    """Score answers overall, by difficulty and by confidence."""
    return StudyReport(
        study=study,
        games=len({answer.game for answer in answers}),
        score=Score.of(answer.correct for answer in answers),
        by_difficulty=_scores_by(answers, DIFFICULTIES, lambda answer: answer.difficulty),
        by_confidence=_scores_by(answers, CONFIDENCE_LEVELS, lambda answer: answer.confidence),
        median_seconds=median(answer.seconds for answer in answers) if answers else None,
    )


def current_streak(answers: Iterable[Answer]) -> int:
    """Number of correct answers since the last wrong one."""
    length = 0
    for answer in answers:
        length = length + 1 if answer.correct else 0
    return length


def _scores_by(answers: Sequence[Answer], keys: Iterable[Any], key: Callable[[Answer], Any]) -> dict[Any, Score]:
    scores = {value: Score.of(a.correct for a in answers if key(a) == value) for value in keys}
    return {value: score for value, score in scores.items() if score.n}
