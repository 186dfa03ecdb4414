"""The Review page: the prediction of a model beside the truth, slice by slice, the worst case first."""

from __future__ import annotations

import streamlit as st

from core.datasets import DataOptions
from core.errors import UserError
from core.paths import DEMO_MODEL
from core.runs.predictions import read_predictions
from ui.review import view
from ui.review.case_list import case_list
from ui.shared import cache
from ui.shared.data_choice import choose_data, held_out_subjects
from ui.shared.errors import error_box, stop_on_user_error
from ui.shared.model_choice import choose_model
from ui.shared.navigation import page
from ui.shared.paths import runs_root
from ui.shared.state import CASE, CROSSHAIR, load_from_url, save_to_url
from ui.viewer.scenes import subject_scene

DATA, CASE_FILTER = "review_data", "review_show"  # session keys
HELD_OUT, ALL = "held out", "all"

st.title("Review", anchor=False)
models = {model.key: model for model in cache.models()}
if not models:
    st.info("No model yet: train one, then review its predictions here.", icon=":material/info:")
    st.page_link(page("train"), label="Go to Train", icon=":material/model_training:")
    st.stop()

choosers = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
with choosers:
    model = choose_model(models, next(iter(models)), width=380)
    with stop_on_user_error():
        metadata = cache.checkpoint_metadata(model.path)
        choice = choose_data(metadata, DATA, width=260)
held_out = held_out_subjects(metadata) if choice.is_training_data else []
view.make_demo_subject(choice.folder, held_out)
try:
    options = DataOptions.from_config(metadata.train_config.data)
    dataset = cache.dataset(choice.folder, options)
except UserError as error:
    error_box(error)
    st.page_link(page("data"), label="Look at the data sets", icon=":material/database:")
    st.stop()

held_out = [subject for subject in held_out if subject in dataset.ids]
with choosers:
    filters = [HELD_OUT, ALL] if held_out else [ALL]
    case_filter = st.segmented_control(
        "Cases", filters, default=filters[0], required=True, key=f"{CASE_FILTER}-{len(filters)}"
    )
predictions = read_predictions(runs_root(), model.path, choice.folder)
subjects = view.worst_first(held_out if case_filter == HELD_OUT else dataset.ids, predictions)
cases = view.CaseList(model.path, choice.folder, subjects, predictions)
view.summary(dataset, metadata, cases)
load_from_url(CASE, subjects[0], allowed=subjects)
chosen = st.session_state[CASE] if st.session_state[CASE] in subjects else subjects[0]
save_to_url(CASE, chosen)
classes = [{"name": c.name, "colour": c.colour} for c in metadata.label_space.foreground]

with st.grid(3, min_column_width=390, gap=("small", "medium")) as grid:
    with grid.cell():
        view.case_stepper(subjects, chosen)
        clicked = case_list(subjects, {id: p.score for id, p in predictions.items()}, classes, chosen)
        if clicked and clicked != chosen:
            st.session_state[CASE] = clicked
            st.rerun()
        view.score_table(predictions.get(chosen), classes)
    with grid.cell(column_span=2):
        start_unasked = model.key == DEMO_MODEL and chosen in held_out  # a first look without a click
        view.case_warnings(cases, dataset, metadata, chosen)
        view.segmentation_controls(cases, chosen, start_unasked)
        with stop_on_user_error():
            file = predictions[chosen].file if chosen in predictions else None
            scene = subject_scene(choice.folder, chosen, metadata.label_space, file, options)
        view.resampling_note(predictions.get(chosen), scene)
        view.case_viewer(scene, st.query_params.get(CROSSHAIR))
