"""The quiz under attack: nothing that the browser receives before an answer, but the pictures, gives the truth away.

400 questions are played in a real browser, two games at a time. Everything that came for each - addresses, headers,
sizes, order, times, websocket messages, the page's source - goes to a classifier that is told the truth of 200 and
guesses the other 200. That the classifier finds a leak where there is one is shown with leaks planted into the same
recording.
"""

from __future__ import annotations

import dataclasses
import gzip
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, zip_longest

import pytest
from playwright.sync_api import Browser, Page

from core.study.answers import read_answers
from tests.browser.conftest import Server
from tests.support.quiz_attack import attack, features, p_value
from tests.support.quiz_player import Fetched, Observed, Player
from tests.support.quiz_runs import QuizRun

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(3600)]
TOLD, GUESSED = 200, 200
PAGES = 2
CHANCE = 0.01  # such a p-value or a lower one is more than chance

Recording = list[tuple[Observed, bool]]  # each question, and whether its truth is on the left


class Reader:
    """Plays on and on, a game per page, and records. While one page waits for the server, another draws."""

    def __init__(self, pages: Sequence[Page], server: Server, run: str) -> None:
        self.server = server
        self.players = [Player(page, watch=True) for page in pages]
        for player in self.players:
            player.play(f"{server.url}/quiz?model={run}", 40)

    def record(self, count: int) -> Recording:
        """That many questions and a few more: games are played to their end."""
        found: Recording = []
        while len(found) < count:
            recordings: list[Recording] = [[] for _ in self.players]
            games = [self._game(*both) for both in zip(self.players, recordings, strict=True)]
            for _ in zip_longest(*games):
                pass
            found += chain.from_iterable(recordings)
        return found

    def _game(self, player: Player, recording: Recording) -> Iterator[None]:
        """Play a game to its end, and begin the next one; stops wherever there is something to wait for."""
        observed, number, going = [], 1, True
        while going:
            observed.append(player.question(number))
            player.choose("ArrowLeft", 2)
            yield
            player.told(number)
            bar = player.enter()
            yield
            going = player.another(bar, number)
            number += 1
        game = re.search(r"game=(\w+)", player.page.url)
        assert game is not None
        answers = read_answers(self.server.checkpoints, game[1])
        recording += [(o, a.truth_side == "left") for o, a in zip(observed, answers, strict=True)]
        player.play("", 40, start="Play again")


@pytest.fixture(scope="module")
def reader(quiz_run: QuizRun, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("quiz-attack")
    shutil.copytree(quiz_run.root, folder / "checkpoints")
    server = Server(folder, SEGMENTARIUM_DATA=str(quiz_run.data_root))
    contexts = [browser.new_context(viewport={"width": 800, "height": 600}) for _ in range(PAGES)]
    for context in contexts:
        context.set_default_timeout(60_000)
    yield Reader([context.new_page() for context in contexts], server, quiz_run.run)
    for context in contexts:
        context.close()
    server.stop()


@pytest.fixture(scope="module")
def recording(reader: Reader) -> Recording:
    return reader.record(TOLD + GUESSED)[: TOLD + GUESSED]


def guess(recording: Sequence[tuple[Observed, bool]], fresh: Sequence[tuple[Observed, bool]] = ()) -> float:
    """Learn from the first 200, guess the others (or ``fresh`` ones); how likely chance does as well."""
    tried = fresh or recording[TOLD:]
    told = [left for _, left in recording[:TOLD]]
    guesses = attack([features(o) for o, _ in recording[:TOLD]], told, [features(o) for o, _ in tried])
    return p_value(guesses, [left for _, left in tried])


def test_nothing_but_the_pictures_gives_the_truth_away(reader: Reader, recording: Recording) -> None:
    assert len(recording) == TOLD + GUESSED
    for observed, _ in recording:
        left, right = observed.side("left"), observed.side("right")
        assert len(left.body) == len(right.body) and left.body != right.body
        assert len(observed.volumes) == 3 and len(observed.frames) > 5 and len(observed.source) > 1000
    p = guess(recording)
    if p < CHANCE:  # one run in a hundred by chance alone; a leak is there for other questions too
        p = guess(recording, reader.record(GUESSED)[:GUESSED])
    assert p >= CHANCE, f"a classifier that sees no picture finds the truth, p = {p:.2g}"


def compressed(volume: Fetched, of_truth: bool) -> Fetched:
    """As a server that compresses would send it."""
    return dataclasses.replace(volume, wire=len(gzip.compress(volume.body, 1, mtime=0)))


def tagged(volume: Fetched, of_truth: bool) -> Fetched:
    """With a header that says which kind of file it was read from."""
    return dataclasses.replace(volume, headers=[*volume.headers, ("x-source", ".img" if of_truth else ".nii.gz")])


def later(volume: Fetched, of_truth: bool) -> Fetched:
    """Made when it is asked for, which takes longer for the one that has to be unpacked first."""
    delay = 0 if of_truth else 25
    return dataclasses.replace(volume, first_byte_ms=volume.first_byte_ms + delay)


def first(observed: Observed, left: bool) -> Observed:
    """The truth always before the prediction."""
    truth = observed.side("left" if left else "right")
    return dataclasses.replace(observed, volumes=sorted(observed.volumes, key=lambda v: v is not truth))


def named(observed: Observed, left: bool) -> Observed:
    """Messages that say it in a word that nobody sees on the screen."""
    word = b'{"kind": "%s"}' % (b"truth-left" if left else b"truth-right")
    return dataclasses.replace(observed, frames=[*observed.frames, (observed.frames[-1][0], word)])


def of_volumes(change: Callable[[Fetched, bool], Fetched]) -> Callable[[Observed, bool], Observed]:
    def changed(observed: Observed, left: bool) -> Observed:
        truth = observed.side("left" if left else "right")
        return dataclasses.replace(observed, volumes=[change(v, v is truth) for v in observed.volumes])

    return changed


@pytest.mark.parametrize(
    "leak", [of_volumes(compressed), of_volumes(tagged), of_volumes(later), first, named],
    ids=["compressed sizes", "a header", "time", "order", "a message"],
)  # fmt: skip
def test_the_attack_finds_a_leak(recording: Recording, leak: Callable[[Observed, bool], Observed]) -> None:
    leaking = [(leak(observed, left), left) for observed, left in recording]
    assert guess(leaking) < CHANCE
