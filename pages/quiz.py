"""The Quiz page: a slice with two segmentations, of which one is the ground truth."""

from __future__ import annotations

import streamlit as st

from core.errors import UserError
from ui.quiz.current_game import current_game_id, enter_game, leave_game
from ui.quiz.game import GameSettings
from ui.quiz.games import find_game, new_game
from ui.quiz.question_view import render_question
from ui.quiz.score_view import render_score
from ui.quiz.settings_view import choose_settings
from ui.shared.errors import error_box
from ui.shared.paths import runs_root

bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
with bar:
    st.title("Quiz", anchor=False, width="content")


def begin(settings: GameSettings) -> None:
    """Start a game and show its first question."""
    try:
        with st.spinner("Drawing the questions"):
            game = new_game(runs_root(), settings)
    except UserError as error:
        error_box(error)
        return
    enter_game(game.id)
    st.rerun()


id = current_game_id()
if not id:
    st.markdown(
        "Two segmentations of the same slice: one is the reference (the ground truth), the other is the prediction "
        "of a network. Which is which?"
    )
    settings = choose_settings()
    if settings is not None:
        begin(settings)
    st.stop()

game = find_game(id)
if game is not None and not game.over:
    enter_game(id)
    render_question(game, bar)
    st.stop()

with bar:
    st.space("stretch")
    name = "Other settings" if game is not None else "New game"
    if st.button(name, type="secondary" if game is not None else "primary", icon=":material/tune:"):
        leave_game()
        st.rerun()
    again = game is not None and st.button("Play again", type="primary", icon=":material/replay:")
if again and game is not None:
    begin(game.settings)
enter_game(id)
render_score(id, game)
