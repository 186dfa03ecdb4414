"""A question of the quiz on screen, and its answer."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from core.errors import UserError
from core.formatting import format_score
from core.study.answers import Answer, current_streak
from core.study.statistics import Score
from ui.quiz import answer_bar
from ui.quiz.game import Game
from ui.shared.errors import error_box
from ui.viewer.component import ViewerOptions, viewer

CORRECT_COLOUR, WRONG_COLOUR = "#1fa187", "#d55e00"
HEIGHT = 520  # pixels of the pictures: with the bar above they fit on a laptop's screen
SIDES = ("left", "right")

# Session key: number of failed attempts to store the present answer, and the reason of the last failure.
ATTEMPT = "quiz_attempt"


def render_question(game: Game, bar: st.delta_generator.DeltaGenerator) -> None:
    """Render the current question or its answer; ``bar`` shows progress and score."""
    with bar:
        st.html(_progress_dots(game.answers, len(game), game.number), width="content")
        st.space("stretch")
        st.caption(_running_score(game.answers), width="content")
        if st.button("End the game", type="tertiary", icon=":material/stop:"):
            game.end()
            st.rerun()
    if game.answered:
        _answered_question(game)
    else:
        _open_question(game)


def render_revealed(game: Game, number: int) -> None:
    """Render an answered question: both segmentations on their sides, then where they differ."""
    first = "truth" if game.answers[number - 1].truth_side == "left" else "prediction"
    rows = (first, "prediction" if first == "truth" else "truth", "errors")
    options = ViewerOptions(rows, (game.plane(number),), start=game.start_voxel(number), height=HEIGHT, crosshair=False)
    viewer(game.revealed_scene(number), "quiz", options)


def explanation(answer: Answer) -> str:
    """How truth and prediction differ in the slice, as plain text."""
    return f"{answer.why} Dice of this slice {format_score(answer.dice)}."


def _open_question(game: Game) -> None:
    number = game.number
    attempt, failure = st.session_state.get(ATTEMPT, (0, ""))
    scene = game.scene()
    choice = answer_bar.ask(number, attempt)
    if choice is not None:
        try:
            game.answer(number, *choice)
            st.session_state[ATTEMPT] = attempt, ""
        except UserError as error:
            st.session_state[ATTEMPT] = attempt + 1, str(error)
        st.rerun()
    if failure:
        error_box(failure, context="The answer was not stored, so it does not count")
    options = ViewerOptions(
        SIDES, (game.plane(number),), start=game.start_voxel(number), height=HEIGHT, crosshair=False
    )
    viewer(scene, "quiz", options)
    if len(game) < game.settings.count and number == 1:
        st.caption(f"There are {len(game)} questions: this data has no more slices of this difficulty.")


def _answered_question(game: Game) -> None:
    number, answer = game.number, game.answers[-1]
    verdict = f"{'Right' if answer.correct else 'Wrong'}: the ground truth is on the {answer.truth_side}."
    result = answer_bar.Verdict(answer.correct, verdict, explanation(answer), last=number == len(game))
    if answer_bar.show_verdict(number, result):
        game.advance(number)
        st.rerun()
    render_revealed(game, number)


def _running_score(answers: Sequence[Answer]) -> str:
    score = Score.of(a.correct for a in answers)
    if not score.n:
        return ""
    streak = current_streak(answers)
    return f"{score.correct} of {score.n} right · {score.accuracy_text} (95 % interval {score.interval_text})" + (
        f" · {streak} in a row" if streak > 1 else ""
    )


def _progress_dots(answers: Sequence[Answer], total: int, number: int) -> str:
    """``question 7/20`` and a mark per question: a dot for a correct answer, a cross for a wrong one, a ring for the
    current question."""
    marks = []
    for n in range(1, total + 1):
        if n <= len(answers):
            correct = answers[n - 1].correct
            glyph, colour, weight = ("●", CORRECT_COLOUR, 400) if correct else ("✕", WRONG_COLOUR, 700)
        else:
            glyph, colour, weight = ("○", "currentColor", 700) if n == number else ("·", "currentColor", 400)
        marks.append(f'<span style="color:{colour};font-weight:{weight}">{glyph}</span>')
    correct_count = sum(a.correct for a in answers)
    label = html.escape(f"question {number} of {total}, {correct_count} of {len(answers)} right")
    return (
        f'<div role="img" aria-label="{label}" style="display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline">'
        f'<span style="font-weight:600">question {number}/{total}</span>'
        f'<span style="display:inline-flex;flex-wrap:wrap;gap:3px">{"".join(marks)}</span></div>'
    )
