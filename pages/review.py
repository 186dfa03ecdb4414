"""Review: what a model says about a case, slice by slice beside the truth, the worst case first."""

from __future__ import annotations

import streamlit as st

from core.errors import UserError
from core.paths import READY_MADE
from core.runs.predictions import kept_predictions
from ui.review import view
from ui.review.case_list import case_list
from ui.shared import cache, folders
from ui.shared.errors import error_box, stop_on_user_error
from ui.shared.navigation import page
from ui.shared.state import AT, CASE, MODEL, REVIEW_SHOW, put_into_address, runs_root, take_from_address
from ui.viewer.scenes import subject_scene

st.title("Review", anchor=False)
models = {model.key: model for model in cache.models()}
if not models:
    st.info("No model yet: train one, and see here what it says about each case.", icon=":material/info:")
    st.page_link(page("train"), label="Go to Train", icon=":material/model_training:")
    st.stop()

take_from_address(MODEL, next(iter(models)), among=tuple(models))
choosers = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
with choosers:
    key = st.selectbox(
        "Model", list(models), key=MODEL, persist_state="session", width=380,
        format_func=lambda k: models[k].name if k in models else str(k),
    )  # fmt: skip
    model = models.get(key) or next(iter(models.values()))
    put_into_address(MODEL, model.key)
    with stop_on_user_error():
        description = cache.description(model.path)
        own = folders.own_data(description)
        folder = view.choose_data(own)
held_out = view.held_out(description) if folder == own else []
view.make_demo_subject(folder, held_out)
try:
    dataset = cache.dataset(folder)
except UserError as error:
    error_box(error)
    st.page_link(page("data"), label="Look at the data sets", icon=":material/database:")
    st.stop()

held_out = [subject for subject in held_out if subject in dataset.ids]
with choosers:
    ways = ["held out", "all"] if held_out else ["all"]
    show = st.segmented_control("Cases", ways, default=ways[0], required=True, key=f"{REVIEW_SHOW}-{len(ways)}")
kept = kept_predictions(runs_root(), model.path, folder)
subjects = view.worst_first(held_out if show == "held out" else dataset.ids, kept)
view.about(dataset, description, subjects, kept)
take_from_address(CASE, subjects[0], among=subjects)
chosen = st.session_state[CASE] if st.session_state[CASE] in subjects else subjects[0]
put_into_address(CASE, chosen)
classes = [{"name": c.name, "colour": c.colour} for c in description.label_space.foreground]

with st.grid(3, min_column_width=390, gap=("small", "medium")) as body:
    with body.cell():
        view.step(subjects, chosen)
        now = case_list(subjects, {id: p.score for id, p in kept.items()}, classes, chosen)
        if now and now != chosen:
            st.session_state[CASE] = now
            st.rerun()
        view.scores(kept.get(chosen), classes)
    with body.cell(column_span=2):
        begin = model.key == READY_MADE and chosen in held_out  # the first look costs nobody a click
        view.segmenting(model.path, folder, subjects, chosen, kept, begin)
        with stop_on_user_error():
            file = kept[chosen].file if chosen in kept else None
            scene = subject_scene(folder, chosen, description.label_space, file)
        view.look(scene, st.query_params.get(AT))
