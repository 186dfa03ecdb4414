"""The end of a game of the quiz: score, confidence, and every question again."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from core.errors import UserError
from core.runs.store.lost_answers import read_lost
from core.study.answers import Answer, UnknownGameError, current_streak, read_answers, summarise
from core.study.statistics import Score
from ui.quiz.game import Game
from ui.quiz.games import EXPIRY_S
from ui.quiz.question_view import explanation, render_revealed
from ui.shared import formatting
from ui.shared.paths import runs_root

CONFIDENCE_NAMES = {1: "a guess", 2: "rather unsure", 3: "rather sure", 4: "certain"}

# Prefix of a session key: the question that is shown again.
SHOWN_QUESTION = "quiz_review"


def render_score(id: str, game: Game | None) -> None:
    """Render the score of a game.

    Parameters
    ----------
    id : str. Id of the game; its answers are read from the database.
    game : Game or None. The game, if it is still in memory: its questions can be shown again.
    """
    try:
        answers = read_answers(runs_root(), id)
    except UnknownGameError:
        answers = []
    except UserError as error:
        st.warning(formatting.plain(str(error)), icon=":material/search_off:")
        return
    if not answers:
        elsewhere = ", or it was played on another server" if game is None else ""
        st.info(f"No question of this game was answered{elsewhere}.", icon=":material/info:")
        return
    report = summarise(id, answers)
    say_lost(read_lost(runs_root()).games.get(answers[0].game, 0), "this game")
    first = answers[0]
    requested = f" of {first.questions} requested" if len(answers) < first.questions else ""
    model_name = game.settings.model_name if game is not None else first.model
    st.caption(
        f"{formatting.count(len(answers), 'question')}{requested} · {first.difficulty} · {_shown_slices(first)} · "
        f"{formatting.plain(model_name)} on {formatting.plain(first.data)}"
    )
    _metrics(report.score, longest_streak(answers), report.median_seconds)
    st.markdown(_interpretation(report.score))
    if len(report.by_confidence) > 1:
        scores = (f"{CONFIDENCE_NAMES[c]} {s.correct} of {s.n}" for c, s in report.by_confidence.items())
        st.caption("Right answers by confidence: " + " · ".join(scores))
    _questions_again(answers, game)
    st.caption("Every answer is stored. The same report in a terminal:")
    st.code(f"python -m core quiz report {id}", language="bash")


def say_lost(number: int, of: str) -> None:
    """Say that answers were lost with a damaged database, so that a score is of fewer; nothing where none were."""
    if number:
        st.warning(
            f"At least {formatting.count(number, 'answer')} of {of} were lost with a damaged database, and are not "
            "counted.",
            icon=":material/heart_broken:",
        )


def longest_streak(answers: Sequence[Answer]) -> int:
    """The longest series of correct answers."""
    return max((current_streak(answers[: n + 1]) for n in range(len(answers))), default=0)


def _questions_again(answers: Sequence[Answer], game: Game | None) -> None:
    """Choose an answered question and show it with the truth."""
    st.header("The questions again", anchor=False)
    labels = {a.number: f"{a.number} {'✓' if a.correct else '✗'}" for a in answers}
    number = st.segmented_control(
        "Question",
        list(labels),
        default=answers[0].number,
        required=True,
        key=f"{SHOWN_QUESTION}-{answers[0].game}",
        format_func=lambda n: labels[n],
        label_visibility="collapsed",
    )
    answer = next(a for a in answers if a.number == (number or answers[0].number))
    given = f"your answer: {answer.chosen_side}, {CONFIDENCE_NAMES[answer.confidence]}, after {answer.seconds:.1f} s"
    st.markdown(
        f"**{'Right' if answer.correct else 'Wrong'}**: the ground truth was on the {answer.truth_side}; {given}.  \n"
        f"{formatting.plain(explanation(answer))}"
    )
    if game is None:
        hours = formatting.count(round(EXPIRY_S / 3600), "hour")
        st.caption(
            f"Its images are no longer available: the game was not open for {hours}, or the server was restarted."
        )
    else:
        render_revealed(game, answer.number)


def _metrics(score: Score, longest: int, median_seconds: float | None) -> None:
    with st.container(horizontal=True, gap="large"):
        st.metric("Right", f"{score.correct} of {score.n}", width="content")
        st.metric("Accuracy", score.accuracy_text, width="content")
        st.metric(
            "95 % interval",
            score.interval_text,
            width="content",
            help="Exact (Clopper-Pearson): accuracies with which this score would not be unusual.",
        )
        st.metric("Most in a row", str(longest), width="content")
        seconds = f"{median_seconds:.1f} s" if median_seconds is not None else "–"
        st.metric("Time per question", seconds, width="content")


def _interpretation(score: Score) -> str:
    low, high = score.interval
    if low > 0.5:
        return "You can tell them apart: guessing (50 %) is below the interval."
    if high < 0.5:
        return "You see a difference, but take the prediction for the reference: guessing (50 %) is above the interval."
    return "Guessing (50 %) is within the interval: this game does not show that you can tell them apart."


def _shown_slices(answer: Answer) -> str:
    return "single slices" if answer.slices == 1 else f"stacks of {answer.slices} slices"
