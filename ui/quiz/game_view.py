"""What a game of the quiz looks like: a question, its answer, the score at the end."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from core.errors import UserError
from core.formatting import format_score
from core.study.answers import Answer, current_streak, read_answers, summarise
from core.study.statistics import Score
from ui.quiz import answer_bar
from ui.quiz.games import Game
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.state import QUIZ_ATTEMPT, QUIZ_GAME, QUIZ_REVIEW, runs_root
from ui.viewer.component import ViewerOptions, viewer

RIGHT, WRONG = "#1fa187", "#d55e00"
HEIGHT = 520  # pixels of the pictures of a question: with the bar above it fits on a laptop's screen
SIDE_BY_SIDE = ("left", "right")
SURE_WORDS = {1: "a guess", 2: "rather unsure", 3: "rather sure", 4: "certain"}


def current() -> str:
    """The id of the game that this session, or the address, is in; empty where there is none."""
    return str(st.query_params.get(QUIZ_GAME) or st.session_state.get(QUIZ_GAME) or "")


def enter(id: str) -> None:
    """Make a game the session's; the address names it, so that it can be loaded again."""
    st.session_state[QUIZ_GAME] = id
    if st.query_params.get(QUIZ_GAME) != id:
        st.query_params[QUIZ_GAME] = id


def leave() -> None:
    """Back to the first screen."""
    st.session_state.pop(QUIZ_GAME, None)
    st.query_params.pop(QUIZ_GAME, None)


def play(game: Game, bar: st.delta_generator.DeltaGenerator) -> None:
    """The question on the screen, or its answer."""
    number = game.at
    with bar:
        st.html(_dots(game.answers, len(game), number), width="content")
        st.space("stretch")
        st.caption(_so_far(game.answers), width="content")
        if st.button("End the game", type="tertiary", icon=":material/stop:"):
            game.end()
            st.rerun()
    if game.answered:
        _answered(game, number)
    else:
        _asked(game, number)


def _asked(game: Game, number: int) -> None:
    attempt, why = st.session_state.get(QUIZ_ATTEMPT, (0, ""))
    scene = game.scene()
    given = answer_bar.ask(number, attempt)
    if given is not None:
        try:
            game.answer(number, *given)
            st.session_state[QUIZ_ATTEMPT] = attempt, ""
        except UserError as error:
            st.session_state[QUIZ_ATTEMPT] = attempt + 1, str(error)
        st.rerun()
    if why:
        error_box(why, context="The answer was not kept, so it does not count")
    options = ViewerOptions(SIDE_BY_SIDE, (game.plane(number),), game.start(number), HEIGHT)
    viewer(scene, "quiz", options)
    if len(game) < game.setup.count and number == 1:
        st.caption(f"There are {len(game)} questions: this data has no more slices of this difficulty.")


def _answered(game: Game, number: int) -> None:
    answer = game.answers[-1]
    verdict = f"{'Right' if answer.correct else 'Wrong'}: the ground truth is on the {answer.truth_side}."
    if answer_bar.tell(number, answer.correct, verdict, _why(answer), number == len(game)):
        game.go_on(number)
        st.rerun()
    _revealed(game, number)


def _revealed(game: Game, number: int) -> None:
    """The two where they were, and beside them where they differ."""
    first = "truth" if game.answers[number - 1].truth_side == "left" else "prediction"
    rows = (first, "prediction" if first == "truth" else "truth", "errors")
    planes, start = (game.plane(number),), game.start(number)
    viewer(game.revealed(number), "quiz", ViewerOptions(rows, planes, start, HEIGHT))


def over(id: str, game: Game | None) -> None:
    """The score, and every question again."""
    try:
        answers = read_answers(runs_root(), id)
    except UserError as error:
        answers = game.answers if game is not None else []
        if game is None or answers:
            st.warning(formatting.plain(str(error)), icon=":material/search_off:")
            return
    if not answers:
        st.info("No question of this game was answered.", icon=":material/info:")
        return
    found = summarise(id, answers)
    total, about = answers[0].questions, answers[0]
    left_out = f" of {total} asked for" if len(answers) < total else ""
    st.caption(
        f"{formatting.count(len(answers), 'question')}{left_out} · {about.difficulty} · {_shown(about)} · "
        f"{formatting.plain(_model(game, about))} on {formatting.plain(about.data)}"
    )
    _numbers(found.score, longest(answers), found.median_seconds)
    st.markdown(_meaning(found.score))
    if len(found.by_confidence) > 1:
        st.caption("How sure, and how often right: " + " · ".join(_part(n, s) for n, s in found.by_confidence.items()))
    _again(answers, game)
    st.caption("Every answer is kept. The same report in a terminal:")
    st.code(f"python -m core quiz report {id}", language="bash")


def longest(answers: Sequence[Answer]) -> int:
    """The longest row of right answers."""
    return max((current_streak(answers[: n + 1]) for n in range(len(answers))), default=0)


def _again(answers: Sequence[Answer], game: Game | None) -> None:
    """Choose a question and see it once more, with the truth."""
    st.subheader("The questions again", anchor=False)
    marks = {a.number: f"{a.number} {'✓' if a.correct else '✗'}" for a in answers}
    number = st.segmented_control(
        "Question", list(marks), default=answers[0].number, required=True, key=f"{QUIZ_REVIEW}-{answers[0].game}",
        format_func=lambda n: marks[n], label_visibility="collapsed",
    )  # fmt: skip
    answer = next(a for a in answers if a.number == (number or answers[0].number))
    said = f"you said {answer.chosen_side}, {SURE_WORDS[answer.confidence]}, after {answer.seconds:.1f} s"
    st.markdown(
        f"**{'Right' if answer.correct else 'Wrong'}**: the ground truth was on the {answer.truth_side}; {said}.  \n"
        f"{formatting.plain(_why(answer))}"
    )
    if game is None:
        st.caption("Its pictures are gone: the server was started again since.")
    else:
        _revealed(game, answer.number)


def _numbers(score: Score, best: int, seconds: float | None) -> None:
    low, high = score.interval
    with st.container(horizontal=True, gap="large"):
        st.metric("Right", f"{score.correct} of {score.n}", width="content")
        st.metric("Accuracy", f"{100 * score.accuracy:.0f} %", width="content")
        st.metric(
            "95 % interval", f"{100 * low:.0f} to {100 * high:.0f} %", width="content",
            help="Exact (Clopper-Pearson): accuracies with which this score would not be unusual.",
        )  # fmt: skip
        st.metric("Most in a row", str(best), width="content")
        st.metric("Time per question", f"{seconds:.1f} s" if seconds is not None else "–", width="content")


def _meaning(score: Score) -> str:
    low, high = score.interval
    if low > 0.5:
        return "You can tell them apart: guessing (50 %) lies below the interval."
    if high < 0.5:
        return "You see a difference, but take the prediction for the truth: guessing (50 %) lies above the interval."
    return "Guessing (50 %) lies within the interval: this game does not show that you can tell them apart."


def _so_far(answers: Sequence[Answer]) -> str:
    score = Score.of(a.correct for a in answers)
    if not score.n:
        return ""
    low, high = score.interval
    row = current_streak(answers)
    return (
        f"{score.correct} of {score.n} right · {100 * score.accuracy:.0f} % (95 % interval {100 * low:.0f} to "
        f"{100 * high:.0f} %)" + (f" · {row} in a row" if row > 1 else "")
    )


def _dots(answers: Sequence[Answer], total: int, number: int) -> str:
    """``question 7/20`` and a mark for each: filled for right, a cross for wrong, a ring for the one on the screen."""
    marks = []
    for n in range(1, total + 1):
        if n <= len(answers):
            right = answers[n - 1].correct
            glyph, colour, weight = ("●", RIGHT, 400) if right else ("✕", WRONG, 700)
        else:
            glyph, colour, weight = ("○", "currentColor", 700) if n == number else ("·", "currentColor", 400)
        marks.append(f'<span style="color:{colour};font-weight:{weight}">{glyph}</span>')
    said = html.escape(f"question {number} of {total}, {sum(a.correct for a in answers)} of {len(answers)} right")
    return (
        f'<div role="img" aria-label="{said}" style="display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline">'
        f'<span style="font-weight:600">question {number}/{total}</span>'
        f'<span style="display:inline-flex;flex-wrap:wrap;gap:3px">{"".join(marks)}</span></div>'
    )


def _why(answer: Answer) -> str:
    return f"{answer.why} Dice of this slice {format_score(answer.dice)}."


def _part(sure: int, score: Score) -> str:
    return f"{SURE_WORDS[sure]} {score.correct} of {score.n}"


def _shown(answer: Answer) -> str:
    return "single slices" if answer.slices == 1 else f"stacks of {answer.slices} slices"


def _model(game: Game | None, answer: Answer) -> str:
    return game.setup.model_name if game is not None else answer.model
