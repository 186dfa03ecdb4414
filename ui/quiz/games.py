"""Games kept in the server's memory: made from settings, found by id, removed when they expire."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np

from core.datasets import open_dataset
from core.errors import DatasetError
from core.study.questions import DEFAULT_LIMITS, draw_questions
from ui.quiz.game import DrawnQuestion, Game, GameSettings
from ui.quiz.quiz_subject import quiz_subject
from ui.shared import formatting

MAX_SUBJECTS = 8  # per game, drawn at random: all are read before the game begins
MAX_GAMES = 200  # in memory; the least recently used are removed
MAX_BYTES = 2**28  # of the questions that all games show
EXPIRY_S = 2 * 3600.0  # after its last use a game is removed; its answers stay in the database

_games: OrderedDict[str, tuple[float, Game]] = OrderedDict()  # with the time of the last use, the oldest first
_lock = threading.Lock()


def new_game(root: Path, settings: GameSettings, generator: np.random.Generator | None = None) -> Game:
    """Read the subjects, which all games share, and draw the questions.

    Parameters
    ----------
    root : Path. Root of runs, whose database stores the answers.
    settings : GameSettings. Settings of the game.
    generator : Generator, optional. Source of all random choices; unpredictable by default.

    Raises
    ------
    UserError
        If a file cannot be read or a prediction does not fit its subject.
    DatasetError
        If no slice can be a question.
    """
    generator = generator or np.random.default_rng(secrets.randbits(256))
    dataset = open_dataset(settings.folder, options=settings.options)
    cases = [settings.cases[n] for n in generator.permutation(len(settings.cases))[:MAX_SUBJECTS]]
    subjects = {case.subject: quiz_subject(dataset, case, settings.labels) for case in cases}
    candidates = [c for subject in subjects.values() for c in subject.candidates(settings.planes)]
    questions = draw_questions(candidates, settings.count, settings.difficulty, generator, settings.depth)
    if not questions:
        raise DatasetError(
            f"{settings.data_name}: expected slices with {DEFAULT_LIMITS.foreground} or more labelled voxels in "
            f"reference and prediction that differ in {DEFAULT_LIMITS.differing} or more, found none in "
            f"{formatting.count(len(subjects), 'subject')}; choose more planes, other data or another model"
        )
    game = Game(settings, [DrawnQuestion(q, subjects[q.candidate.subject]) for q in questions], root)
    _remember(game)
    return game


def find_game(id: str) -> Game | None:
    """A game in memory; ``None`` if there is none with this id."""
    with _lock:
        _remove_expired()
        if id not in _games:
            return None
        _, game = _games.pop(id)
        _games[id] = time.monotonic(), game
        return game


def _remember(game: Game) -> None:
    """Add a game; remove the least recently used ones that exceed a limit."""
    with _lock:
        _remove_expired()
        _games[game.id] = time.monotonic(), game
        while len(_games) > 1 and (
            len(_games) > MAX_GAMES or sum(kept.nbytes for _, kept in _games.values()) > MAX_BYTES
        ):
            _remove_oldest()


def _remove_expired() -> None:
    oldest_allowed = time.monotonic() - EXPIRY_S
    while _games and next(iter(_games.values()))[0] < oldest_allowed:
        _remove_oldest()


def _remove_oldest() -> None:
    _, (_, game) = _games.popitem(last=False)
    game.end()
