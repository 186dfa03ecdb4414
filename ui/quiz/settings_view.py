"""The quiz's first screen: which model, which data, how hard; and what is made before a first game can begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from core.checkpointing.metadata import Description
from core.datasets import Dataset
from core.errors import UserError
from core.formatting import format_score
from core.paths import READY_MADE
from core.runs.predictions import Prediction, kept_predictions
from core.study.answers import read_answers
from core.study.questions import AXES, DIFFICULTIES, MOST_SLICES, Score
from ui.quiz.games import Case, Setup
from ui.shared import cache, demo_jobs, evaluation_job, folders, formatting, jobs
from ui.shared.errors import error_box, stop_on_user_error
from ui.shared.navigation import page
from ui.shared.progress import progress
from ui.shared.state import (
    DEMO,
    MODEL,
    QUIZ_COUNT,
    QUIZ_DATA,
    QUIZ_DEPTH,
    QUIZ_DIFFICULTY,
    QUIZ_PLANES,
    QUIZ_PREPARING,
    demo_folder,
    put_into_address,
    runs_root,
    take_from_address,
)

OWN = "the data it was trained on"
COUNTS = (10, 20, 40)
DEPTHS = {1: "one slice", 5: "a stack of 5", MOST_SLICES: f"a stack of {MOST_SLICES}"}
MOST_AT_ONCE = 4  # subjects that are segmented for a game
FIRST_SUBJECT = "subject-1"  # of the demo data, for a model that names none
HELP = {
    "difficulty": "By the share of marked voxels on which truth and prediction differ, in thirds: easy differs most.",
    "depth": "A stack is scrolled with the wheel or with ↑ and ↓.",
}


@dataclass(frozen=True)
class _Chosen:
    """A model and the data to play on; ``subject``: of the demo data, which has to be made first."""

    key: str
    name: str
    checkpoint: Path
    description: Description
    data: str
    folder: Path
    subject: str = ""


def choose() -> Setup | None:
    """Draw the screen; returns what to play, when the reader wants to and everything is there."""
    with st.grid(2, min_column_width=420, gap=("small", "large")) as body:
        with body.cell():
            chosen = _model_and_data()
            difficulty = st.segmented_control(
                "Difficulty", DIFFICULTIES, default="medium", required=True, key=QUIZ_DIFFICULTY,
                persist_state="session", help=HELP["difficulty"],
            )  # fmt: skip
            count = st.segmented_control(
                "Questions", COUNTS, default=20, required=True, key=QUIZ_COUNT, persist_state="session"
            )
            depth = st.segmented_control(
                "Shown", list(DEPTHS), default=1, required=True, key=QUIZ_DEPTH, persist_state="session",
                format_func=lambda n: DEPTHS[n], help=HELP["depth"],
            )  # fmt: skip
            planes = st.segmented_control(
                "Planes",
                list(AXES),
                selection_mode="multi",
                default=list(AXES),
                key=QUIZ_PLANES,
                persist_state="session",
            )
        with body.cell():
            st.subheader("What will happen", anchor=False)
            cases = _cases(chosen)
            wanted = False
            if cases:
                wanted = st.button("Play", type="primary", icon=":material/play_arrow:")
            st.caption(
                "Keys: ← and → choose a side, 1 to 4 say how sure you are, Enter goes on. The answer shows where the "
                "two differ. Guessing is right half of the time."
            )
            _so_far()
    if cases and _preparing(chosen):
        st.session_state.pop(QUIZ_PREPARING)
        wanted = True
    if not wanted:
        return None
    return Setup(
        model=chosen.key, model_name=chosen.name, data=chosen.data, data_name=cache.dataset(chosen.folder).name,
        folder=chosen.folder, labels=chosen.description.label_space, cases=tuple(cases),
        difficulty=difficulty, count=count, planes=tuple(planes or AXES), depth=depth,
    )  # fmt: skip


def unseen(description: Description, dataset: Dataset) -> list[str]:
    """The labelled subjects that a model has not learned from."""
    learned = set(description.split.get("train", []))
    return [id for id in dataset.labelled_ids if id not in learned]


def _model_and_data() -> _Chosen:
    models = {model.key: model for model in cache.models()}
    if not models:
        st.info("The quiz needs a trained model: train one first.", icon=":material/info:")
        st.page_link(page("train"), label="Go to Train", icon=":material/model_training:")
        st.stop()
    take_from_address(MODEL, READY_MADE if READY_MADE in models else next(iter(models)), among=tuple(models))
    key = st.selectbox(
        "Model", list(models), key=MODEL, persist_state="session",
        format_func=lambda k: models[k].name if k in models else str(k),
    )  # fmt: skip
    model = models[key if key in models else next(iter(models))]
    put_into_address(MODEL, model.key)
    with stop_on_user_error():
        description = cache.description(model.path)
        own = folders.own_data(description)
        others = [c for c in cache.data_choices() if own is None or cache.data_path(c) != own]
        choices = ([OWN] if own is not None else []) + others
        data = st.selectbox("Data", choices, key=f"{QUIZ_DATA}-{own is None}", persist_state="session")
        folder = own if data == OWN and own is not None else cache.data_path(data or DEMO)
    name = DEMO if folder == demo_folder() else str(folder) if data == OWN else str(data)
    subject = ""
    if folder == demo_folder() and not cache.demo_is_there():
        held = [*description.split.get("test", []), *description.split.get("val", []), FIRST_SUBJECT]
        subject = "" if cache.demo_has(held[0]) else held[0]
    return _Chosen(model.key, model.name, model.path, description, name, folder, subject)


def _cases(chosen: _Chosen) -> list[Case]:
    """The subjects to play on; where there is none yet, the way to get one."""
    if chosen.subject:
        st.markdown(
            f"First a synthetic subject that this model has never seen is made ({formatting.plain(chosen.subject)} of the "
            "demo data, a few seconds), then the model segments it."
        )
        if _button("Prepare and play", chosen, "subject"):
            demo_jobs.start_demo_subject(chosen.subject)
            st.rerun()
        _work(chosen, "subject", f"Making {formatting.plain(chosen.subject)}", [])
        return []
    try:
        dataset = cache.dataset(chosen.folder)
    except UserError as error:
        error_box(error)
        st.page_link(page("data"), label="Look at it on the Data page", icon=":material/database:")
        return []
    subjects = unseen(chosen.description, dataset)
    if not subjects:
        st.warning("This data set has no labelled subject that the model has not learned from. Choose another one.")
        return []
    kept = kept_predictions(runs_root(), chosen.checkpoint, chosen.folder)
    found = {id: kept[id] for id in subjects if id in kept}
    wanting = [id for id in subjects if id not in found or found[id].stale][:MOST_AT_ONCE]
    synthetic = " The data is synthetic." if dataset.synthetic else ""
    st.markdown(
        f"{formatting.count(len(subjects), 'subject')} of {formatting.plain(dataset.name)} that the model has not learned from, "
        f"{len(found) or 'none'} of them segmented.{synthetic}"
    )
    if found:
        st.caption(_dice(found))
    else:
        st.markdown(
            f"First the model segments {_named(wanting)}; what it makes is kept."
            + (" The game begins as soon as one is ready." if len(wanting) > 1 else "")
        )
    again = "again" if all(id in found for id in wanting) else "too"
    label = f"Segment {_named(wanting)} {again}" if found else "Prepare and play"
    if wanting and _button(label, chosen, "segment", primary=not found):
        evaluation_job.start(chosen.checkpoint, chosen.folder, wanting)
        st.rerun()
    if wanting:
        _work(chosen, "segment", f"Segmenting {_named(wanting)}", wanting)
    return [Case(id, p.file, p.epoch, p.step) for id, p in found.items()]


def _so_far() -> None:
    """One line on everything that was answered before."""
    try:
        score = Score.of(answer.correct for answer in read_answers(runs_root()))
    except UserError as error:
        st.warning(f"Answers cannot be kept: {formatting.plain(str(error))}", icon=":material/warning:")
        return
    if score.n:
        low, high = score.interval
        st.caption(
            f"All games so far: {score.correct:,} of {score.n:,} right, {100 * score.accuracy:.0f} % (95 % interval "
            f"{100 * low:.0f} to {100 * high:.0f} %)."
        )


def _work(chosen: _Chosen, stage: str, doing: str, subjects: Sequence[str]) -> None:
    """A bar while something is made; the second stage begins by itself, what failed is said."""

    def job() -> jobs.Job:
        if stage == "subject":
            return demo_jobs.demo_subject(chosen.subject)
        kept = kept_predictions(runs_root(), chosen.checkpoint, chosen.folder)
        ready = [id for id in subjects if id in kept and not kept[id].stale]
        if ready and _preparing(chosen):
            return jobs.Job("done")  # enough to begin; the others go on and are there for the next game
        return evaluation_job.observe(chosen.checkpoint, chosen.folder, len(ready) == len(subjects))

    now = job()
    if now.state != "running" and _preparing(chosen) and st.session_state[QUIZ_PREPARING][-1] != stage:
        st.session_state[QUIZ_PREPARING] = _flag(chosen, stage)
        evaluation_job.start(chosen.checkpoint, chosen.folder, subjects)
        now = job()
    if now.state == "running":
        progress(doing, job)
    elif now.state == "failed":
        st.session_state.pop(QUIZ_PREPARING, None)
        error_box(now.message, context=f"{doing} did not work")


def _button(label: str, chosen: _Chosen, stage: str, primary: bool = True) -> bool:
    if _preparing(chosen) or not st.button(
        label, type="primary" if primary else "secondary", icon=":material/auto_awesome:", key=f"prepare-{stage}"
    ):
        return False
    if primary:  # a game begins as soon as all is there
        st.session_state[QUIZ_PREPARING] = _flag(chosen, stage)
    return True


def _flag(chosen: _Chosen, stage: str) -> tuple[str, str, str]:
    return chosen.key, str(chosen.folder), stage


def _preparing(chosen: _Chosen) -> bool:
    """Whether the reader has asked for a game with this choice that cannot begin yet."""
    flag = st.session_state.get(QUIZ_PREPARING)
    return flag is not None and flag[:2] == _flag(chosen, "")[:2]


def _named(subjects: Sequence[str]) -> str:
    return formatting.plain(subjects[0]) if len(subjects) == 1 else f"{len(subjects)} subjects"


def _dice(found: Mapping[str, Prediction]) -> str:
    parts = []
    for id, kept in list(found.items())[:8]:
        dice = f" (Dice {format_score(kept.score.mean_dice)})" if kept.score is not None else ""
        stale = ", by an earlier state of the model" if kept.stale else ""
        parts.append(formatting.plain(id) + dice + stale)
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return f"{', '.join(parts)}{more}"
