"""Quiz: a slice with two segmentations - which one is the ground truth?"""

from __future__ import annotations

import streamlit as st

from core.errors import UserError
from ui.quiz import game_view, settings_view
from ui.quiz.games import Setup, find_game, new_game
from ui.shared.errors import error_box
from ui.shared.state import runs_root

bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
with bar:
    st.title("Quiz", anchor=False, width="content")


def begin(setup: Setup) -> None:
    """Start a game and show its first question."""
    try:
        with st.spinner("Drawing the questions"):
            game = new_game(runs_root(), setup)
    except UserError as error:
        error_box(error)
        return
    game_view.enter(game.id)
    st.rerun()


id = game_view.current()
if not id:
    st.markdown(
        "Two segmentations of the same slice: one is the ground truth, the other was made by a network. Which is which?"
    )
    setup = settings_view.choose()
    if setup is not None:
        begin(setup)
    st.stop()

game = find_game(id)
if game is not None and not game.over:
    game_view.enter(id)
    game_view.play(game, bar)
    st.stop()

with bar:
    st.space("stretch")
    if st.button("Other settings", icon=":material/tune:"):
        game_view.leave()
        st.rerun()
    again = game is not None and st.button("Play again", type="primary", icon=":material/replay:")
if again and game is not None:
    begin(game.setup)
game_view.enter(id)
game_view.over(id, game)
