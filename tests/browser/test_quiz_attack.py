"""The blinding of the quiz under attack: before an answer nothing but the pictures predicts the side of the truth.

Questions are played in a real browser, two games at a time, and everything received for each (URLs, headers, sizes,
order, times, websocket messages, page source) goes to a classifier. It learns from the first half of the questions and
guesses the second half. Leaks planted into the same recording show that the classifier finds one. The short form plays
40 questions, the long form 160.
"""

from __future__ import annotations

import dataclasses
import gzip
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import pytest
from playwright.sync_api import Page

from core.study.answers import read_answers
from tests.browser.conftest import Server, SharedBrowser
from tests.support.quiz_attack import attack, features, p_value
from tests.support.quiz_player import Fetched, Observed, Player
from tests.support.quiz_runs import QuizRun

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(3600)]
PAGES = 2
QUESTIONS = 20  # per game
SIGNIFICANT = 0.01  # p-value below which the accuracy of the classifier is not chance

Questions = list[tuple[Observed, bool]]  # what was received, and whether the truth is on the left


@dataclass(frozen=True)
class Recording:
    """Questions to learn from and questions to guess."""

    learned: Questions
    guessed: Questions


class Recorder:
    """Plays games, one per page, and records the questions; while one page waits for the server, another renders."""

    def __init__(self, pages: Sequence[Page], server: Server, run: str) -> None:
        self.server = server
        self.players = [Player(page, record=True) for page in pages]
        for player in self.players:
            player.play(f"{server.url}/quiz?model={run}", QUESTIONS)

    def record(self, count: int) -> Questions:
        """The given number of questions; games are played to their end."""
        questions: Questions = []
        while len(questions) < count:
            recordings: list[Questions] = [[] for _ in self.players]
            games = [self._game(*both) for both in zip(self.players, recordings, strict=True)]
            for _ in zip_longest(*games):
                pass
            questions += chain.from_iterable(recordings)
        return questions[:count]

    def _game(self, player: Player, recording: Questions) -> Iterator[None]:
        """Play a game to its end and begin the next one; yields where there is something to wait for."""
        observed, number, going = [], 1, True
        while going:
            observed.append(player.question(number))
            player.choose("ArrowLeft", 2)
            yield
            player.wait_for_verdict(number)
            bar = player.press_enter()
            yield
            going = player.question_follows(bar, number)
            number += 1
        game = re.search(r"game=(\w+)", player.page.url)
        assert game is not None
        answers = read_answers(self.server.checkpoints, game[1])
        recording += [(o, a.truth_side == "left") for o, a in zip(observed, answers, strict=True)]
        player.play("", QUESTIONS, start="Play again")


@pytest.fixture(scope="module")
def recorder(quiz_run: QuizRun, quiz_server: Server, shared_browser: SharedBrowser) -> Iterator[Recorder]:
    contexts = [shared_browser.get().new_context(viewport={"width": 800, "height": 600}) for _ in range(PAGES)]
    for context in contexts:
        context.set_default_timeout(60_000)
    yield Recorder([context.new_page() for context in contexts], quiz_server, quiz_run.run)
    for context in contexts:
        context.close()


@pytest.fixture(scope="module", params=[40, pytest.param(160, marks=pytest.mark.long(25))])
def recording(recorder: Recorder, request: pytest.FixtureRequest) -> Recording:
    questions = recorder.record(request.param)
    half = len(questions) // 2
    return Recording(questions[:half], questions[half:])


def classifier_p_value(recording: Recording) -> float:
    """Probability that chance guesses at least as well as the classifier."""
    learned, guessed = ([features(observed) for observed, _ in part] for part in (recording.learned, recording.guessed))
    guesses = attack(learned, [left for _, left in recording.learned], guessed)
    return p_value(guesses, [left for _, left in recording.guessed])


def test_nothing_but_the_pictures_predicts_the_side_of_the_truth(recorder: Recorder, recording: Recording) -> None:
    for observed, _ in (*recording.learned, *recording.guessed):
        left, right = observed.side("left"), observed.side("right")
        assert len(left.body) == len(right.body) and left.body != right.body
        assert len(observed.volumes) == 3 and len(observed.frames) > 5 and len(observed.source) > 1000
    p = classifier_p_value(recording)
    if p < SIGNIFICANT:  # by chance once in a hundred runs; a leak would be found in other questions too
        p = classifier_p_value(Recording(recording.learned, recorder.record(len(recording.guessed))))
    assert p >= SIGNIFICANT, f"a classifier that sees no picture finds the truth, p = {p:.2g}"


def compressed(volume: Fetched, of_truth: bool) -> Fetched:
    """Compressed by the server."""
    return dataclasses.replace(volume, wire=len(gzip.compress(volume.body, 1, mtime=0)))


def tagged(volume: Fetched, of_truth: bool) -> Fetched:
    """With a header that names the type of its file."""
    return dataclasses.replace(volume, headers=[*volume.headers, ("x-source", ".img" if of_truth else ".nii.gz")])


def delayed(volume: Fetched, of_truth: bool) -> Fetched:
    """Encoded on request, which takes longer for a compressed file."""
    delay = 0 if of_truth else 25
    return dataclasses.replace(volume, first_byte_ms=volume.first_byte_ms + delay)


def truth_first(observed: Observed, left: bool) -> Observed:
    """The truth requested before the prediction."""
    truth = observed.side("left" if left else "right")
    return dataclasses.replace(observed, volumes=sorted(observed.volumes, key=lambda v: v is not truth))


def with_message(observed: Observed, left: bool) -> Observed:
    """With a websocket message that contains the side."""
    word = b'{"kind": "%s"}' % (b"truth-left" if left else b"truth-right")
    return dataclasses.replace(observed, frames=[*observed.frames, (observed.frames[-1][0], word)])


def of_volumes(change: Callable[[Fetched, bool], Fetched]) -> Callable[[Observed, bool], Observed]:
    def changed(observed: Observed, left: bool) -> Observed:
        truth = observed.side("left" if left else "right")
        return dataclasses.replace(observed, volumes=[change(v, v is truth) for v in observed.volumes])

    return changed


@pytest.mark.parametrize(
    "leak",
    [of_volumes(tagged), of_volumes(delayed), truth_first, with_message],
    ids=["a header", "time", "order", "a message"],
)
def test_attack_detects_an_added_leak(
    recorder: Recorder, recording: Recording, leak: Callable[[Observed, bool], Observed]
) -> None:
    p = p_value_with_leak(recorder, recording, leak)
    assert p < SIGNIFICANT, f"the classifier does not find the leak, p = {p:.2g}"


@pytest.mark.long
@pytest.mark.parametrize("recording", [160], indirect=True)
def test_attack_detects_compressed_sizes(recorder: Recorder, recording: Recording) -> None:
    """Sizes differ on average only, which takes many questions to find."""
    p = p_value_with_leak(recorder, recording, of_volumes(compressed))
    assert p < SIGNIFICANT, f"the classifier does not find the leak, p = {p:.2g}"


def p_value_with_leak(recorder: Recorder, recording: Recording, leak: Callable[[Observed, bool], Observed]) -> float:
    """Learns from all questions and guesses others, where those to learn from are few beside thousands of features."""
    p = classifier_p_value(with_leak(recording, leak))
    if p >= SIGNIFICANT:
        guessed = recorder.record(max(PAGES * QUESTIONS, len(recording.guessed)))
        p = classifier_p_value(with_leak(Recording([*recording.learned, *recording.guessed], guessed), leak))
    return p


def with_leak(recording: Recording, leak: Callable[[Observed, bool], Observed]) -> Recording:
    learned, guessed = (
        [(leak(observed, left), left) for observed, left in part] for part in (recording.learned, recording.guessed)
    )
    return Recording(learned, guessed)
