"""Games kept in the server's memory: made from settings, found by id, the least recently used removed first."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from core.datasets import open_dataset
from core.errors import DatasetError
from core.study.questions import draw_questions
from ui.quiz.game import Game, GameSettings
from ui.quiz.quiz_subject import QuizSubject
from ui.shared import formatting

MAX_SUBJECTS = 8  # per game, drawn at random: all are read before the game begins
MAX_GAMES = 100  # in memory; the least recently used are removed
MAX_BYTES = 2**30  # of all games in memory

_games: OrderedDict[str, Game] = OrderedDict()
_lock = threading.Lock()


def new_game(root: Path, settings: GameSettings, generator: np.random.Generator | None = None) -> Game:
    """Read the subjects, draw the questions and encode the volumes that they show.

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
    subjects = {case.subject: QuizSubject(dataset, case, settings.labels) for case in cases}
    candidates = [c for subject in subjects.values() for c in subject.candidates(settings.planes)]
    questions = draw_questions(candidates, settings.count, settings.difficulty, generator, settings.depth)
    if not questions:
        raise DatasetError(
            f"{settings.data_name}: expected slices in which reference and prediction differ, found none in "
            f"{formatting.count(len(subjects), 'subject')}; choose more planes or another model"
        )
    game = Game(settings, [subjects[q.candidate.subject].question(q) for q in questions], root)
    _remember(game)
    return game


def find_game(id: str) -> Game | None:
    """A game in memory; ``None`` if there is none with this id."""
    with _lock:
        game = _games.get(id)
        if game is not None:
            _games.move_to_end(id)
        return game


def _remember(game: Game) -> None:
    """Add a game; remove the least recently used ones that exceed a limit."""
    with _lock:
        _games[game.id] = game
        nbytes = sum(kept.nbytes for kept in _games.values())
        while len(_games) > 1 and (len(_games) > MAX_GAMES or nbytes > MAX_BYTES):
            _, removed = _games.popitem(last=False)
            nbytes -= removed.nbytes
            removed.end()
