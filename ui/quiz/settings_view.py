"""The first screen of the quiz: choice of model, data and difficulty."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from core.errors import UserError
from core.paths import DEMO, DEMO_MODEL, demo_folder
from core.runs.store.lost_answers import read_lost
from core.study.answers import read_answers
from core.study.questions import DIFFICULTIES, MAX_STACK_DEPTH, PLANE_AXES
from core.study.statistics import Score
from ui.quiz import preparation
from ui.quiz.game import GameSettings
from ui.quiz.preparation import Selection
from ui.quiz.score_view import say_lost
from ui.shared import cache, demo_jobs, formatting
from ui.shared.data_choice import choose_data, held_out_demo_subject
from ui.shared.errors import stop_on_user_error
from ui.shared.model_choice import choose_model
from ui.shared.navigation import page
from ui.shared.paths import runs_root

COUNTS = (10, 20, 40)
DEPTHS = {1: "one slice", 5: "a stack of 5", MAX_STACK_DEPTH: f"a stack of {MAX_STACK_DEPTH}"}
DIFFICULTY_HELP = (
    "By the share of labelled voxels on which reference and prediction differ, in thirds: easy differs most."
)
DEPTH_HELP = "A stack is scrolled with the wheel or with ↑ and ↓."

# Session keys.
DATA = "quiz_data"
DIFFICULTY = "quiz_difficulty"
COUNT = "quiz_count"
PLANES = "quiz_planes"
DEPTH = "quiz_depth"


def choose_settings() -> GameSettings | None:
    """Render the screen; returns the settings once a game is requested and its predictions exist."""
    models = {model.key: model for model in cache.models(ensembles=True)}
    if not models:
        st.info("The quiz needs a trained model: train one first.", icon=":material/info:")
        st.page_link(page("train"), label="Go to Train", icon=":material/model_training:")
        st.stop()
    # The button that starts a game comes first at every width; its settings are beside it, or below on a narrow page.
    grid = st.grid(2, min_column_width=420, gap=("small", "large"))
    action, settings = grid.cell(), grid.cell()
    with settings:
        selection = _choose_model_and_data(models)
        difficulty = st.segmented_control(
            "Difficulty",
            DIFFICULTIES,
            default="medium",
            required=True,
            key=DIFFICULTY,
            persist_state="session",
            help=DIFFICULTY_HELP,
        )
        count = st.segmented_control("Questions", COUNTS, default=20, required=True, key=COUNT, persist_state="session")
        depth = st.segmented_control(
            "Slices",
            list(DEPTHS),
            default=1,
            required=True,
            key=DEPTH,
            persist_state="session",
            format_func=lambda n: DEPTHS[n],
            help=DEPTH_HELP,
        )
        planes = st.segmented_control(
            "Planes",
            list(PLANE_AXES),
            selection_mode="multi",
            default=list(PLANE_AXES),
            key=PLANES,
            persist_state="session",
        )
    with action:
        button = st.container()
        cases = preparation.playable_cases(selection)
        play = bool(cases) and button.button("Play", type="primary", icon=":material/play_arrow:", width="stretch")
        st.caption(
            "Keys: ← and → choose a side, 1 to 4 give your confidence, Enter continues. The answer shows where the "
            "two differ. Guessing is correct half of the time."
        )
        _score_of_all_games()
    if cases and preparation.is_requested(selection):
        preparation.clear_request()
        play = True
    if not play:
        return None
    return GameSettings(
        model=selection.model,
        model_name=selection.model_name,
        data=selection.data,
        data_name=cache.dataset(selection.folder).name,
        folder=selection.folder,
        labels=selection.metadata.label_space,
        cases=tuple(cases),
        difficulty=difficulty,
        count=count,
        planes=tuple(planes or PLANE_AXES),
        depth=depth,
        options=selection.options,
    )


def _choose_model_and_data(models: Mapping[str, cache.Model]) -> Selection:
    model = choose_model(models, DEMO_MODEL if DEMO_MODEL in models else next(iter(models)))
    with stop_on_user_error():
        metadata = cache.checkpoint_metadata(model.path)
        choice = choose_data(metadata, DATA)
    is_demo = choice.folder == demo_folder()
    data = DEMO if is_demo else str(choice.folder) if choice.is_training_data else choice.label
    missing_demo_subject = ""
    if is_demo:
        demo_jobs.install_example()
    if is_demo and not cache.demo_exists():
        subject = held_out_demo_subject(metadata)
        missing_demo_subject = "" if cache.demo_subject_exists(subject) else subject
    return Selection(model.key, model.name, model.path, metadata, data, choice.folder, missing_demo_subject)


def _score_of_all_games() -> None:
    try:
        score = Score.of(answer.correct for answer in read_answers(runs_root()))
        lost = read_lost(runs_root()).number
    except UserError as error:
        st.warning(f"Answers cannot be stored: {formatting.plain(str(error))}", icon=":material/warning:")
        return
    if score.n:
        st.caption(
            f"All games so far: {score.correct:,} of {score.n:,} right, {score.accuracy_text} (95 % interval "
            f"{score.interval_text})."
        )
    say_lost(lost, "all games")
