"""The Review page: the prediction of a model beside the truth, slice by slice, the worst case first; or own files."""

from __future__ import annotations

import streamlit as st

from core.datasets import DataOptions
from core.errors import UserError
from core.evaluation.metrics import ScoredNames
from core.paths import DEMO_MODEL
from core.runs.predictions import read_predictions
from core.runs.review_notes import NotedModel, latest_marks
from ui.review import view
from ui.review.case_list import Scores, case_list
from ui.review.case_order import choose_order, choose_shown, spread_of, worst_first
from ui.review.case_viewer import Found, ShownOnce, case_viewer, first_picture, shown_classes
from ui.review.epochs_view import epochs_controls, read_epochs, with_epoch_layers
from ui.review.export_view import export_button
from ui.review.features_view import features_controls, read_features
from ui.review.figures_view import show_figures
from ui.review.files_view import show_files
from ui.review.findings import findings_url
from ui.review.heat_layers import heat_of
from ui.review.models_view import show_models
from ui.review.notes_view import read_notes, show_notes, target
from ui.review.second_model import SecondModel, choose_second, second_controls, with_second_layer
from ui.review.second_scores import scores_of_all, show_case_scores
from ui.review.surfaces_job import surface_urls
from ui.review.training import follow_training
from ui.review.views import FIGURES, MODELS, OF_FILES, choose_source, choose_view, open_case
from ui.shared import cache
from ui.shared.data_choice import choose_data, held_out_subjects
from ui.shared.errors import error_box, stop_on_user_error
from ui.shared.model_choice import choose_model
from ui.shared.navigation import page, tab_title
from ui.shared.paths import runs_root
from ui.shared.query_params import query_params
from ui.shared.state import CASE, CROSSHAIR, load_from_url, save_to_url
from ui.viewer.scenes import subject_scene

DATA, CASE_FILTER = "review_data", "review_show"  # session keys
HELD_OUT, ALL = "held out", "all"

heading = st.container(horizontal=True, vertical_alignment="center", gap="small")
with heading:
    st.title("Review", anchor=False, width="content")
    source = choose_source()
if source == OF_FILES:
    show_files()
    st.stop()
models = {model.key: model for model in cache.models(ensembles=True)}
if not models:
    st.info("No model yet: train one, then review its predictions here.", icon=":material/info:")
    st.page_link(page("train"), label="Go to Train", icon=":material/model_training:")
    st.stop()

# The picture comes first at every width: beside it, or below it on a narrow page, what it is chosen by.
grid = st.grid(3, min_column_width=390, gap=("small", "medium"))
picture, side = grid.cell(column_span=2), grid.cell()
with side:
    controls = st.container()
    model = choose_model(models, next(iter(models)))
    choosers = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    view_row = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    second_slot = st.container()
with choosers, stop_on_user_error():
    metadata = cache.checkpoint_metadata(model.path)
    choice = choose_data(metadata, DATA, width=230)
held_out = held_out_subjects(metadata) if choice.is_training_data else []
with picture:
    view.make_demo_subject(choice.folder, held_out)
try:
    config = metadata.train_config.data
    options = DataOptions.of_own_data(config) if choice.is_training_data else DataOptions.from_config(config)
    dataset = cache.dataset(choice.folder, options)
except UserError as error:
    error_box(error)
    st.page_link(page("data"), label="Look at the data sets", icon=":material/database:")
    st.stop()

held_out = [subject for subject in held_out if subject in dataset.ids]
with choosers:
    filters = [HELD_OUT, ALL] if held_out else [ALL]
    filter_key = f"{CASE_FILTER}-{len(filters)}"
    load_from_url(filter_key, filters[0], filters, "cases")
    case_filter = st.segmented_control("Cases", filters, required=True, key=filter_key) or filters[0]
    save_to_url(filter_key, case_filter, "cases", filters[0])
predictions = read_predictions(runs_root(), model.path, choice.folder)
noted = NotedModel(runs_root(), model.path, choice.folder)
classes = shown_classes({"name": c.name, "colour": c.colour} for c in metadata.label_space.foreground)
of_set = held_out if case_filter == HELD_OUT else dataset.ids
with side:
    cases_of_set = view.CaseList(model.path, choice.folder, list(of_set), predictions)
    view.summary(dataset, metadata, cases_of_set)
    view.seen_note(metadata, choice.is_training_data, cases_of_set, held_out)
    view.other_classes_note(dataset, metadata)
    order = choose_order(ScoredNames.of_checkpoint(metadata).names)
    spread = spread_of(of_set, predictions, order)
    notes = read_notes(noted)
    marks = latest_marks(notes)
    subjects = choose_shown(worst_first(of_set, predictions, order), predictions, spread, marks)
cases = view.CaseList(model.path, choice.folder, subjects, predictions)
load_from_url(CASE, subjects[0], allowed=of_set)
chosen = st.session_state[CASE] if st.session_state[CASE] in subjects else subjects[0]
save_to_url(CASE, chosen)
with view_row:
    second = choose_second(models, model, dataset, chosen, second_slot)
    shown = choose_view(second.view_title if second is not None else "")
tab_title("Review", chosen, model.name)

with heading:
    view.case_stepper(subjects, chosen)
with controls:
    start_unasked = model.key == DEMO_MODEL and chosen in held_out  # a first look without a click
    view.case_warnings(cases, dataset, metadata, chosen)
    view.segmentation_controls(cases, chosen, start_unasked)
with second_slot:
    if isinstance(second, SecondModel):
        second_controls(cases, second, chosen)
with side:
    by_case = {id: prediction.score for id, prediction in predictions.items()}
    scores = Scores(order.label, order.measure, by_case, order.values(predictions, of_set), spread, marks)
    clicked = case_list(subjects, scores, classes, chosen)
    if clicked and clicked != chosen:
        st.session_state[CASE] = clicked
        st.rerun()
    tolerance_mm = order.measure.tolerance_mm or view.TOLERANCE_MM
    view.score_table(predictions.get(chosen), classes, tolerance_mm, metadata.regions)
    if second is not None:
        show_case_scores(cases, metadata, dataset, second, chosen)
    epoch = predictions[chosen].epoch if chosen in predictions else 0
    show_notes(noted, notes, chosen, epoch)
    export_button(cases, model.name, dataset, chosen, notes)
with picture:
    if shown == FIGURES:
        show_figures(cases, classes, open_case)
    elif shown == MODELS and second is not None:
        if (of_second := scores_of_all(cases, metadata, dataset, second)) is not None:
            show_models(cases, metadata, of_second, order, open_case)
    else:
        with first_picture(), stop_on_user_error():
            file = predictions[chosen].file if chosen in predictions else None
            heat = heat_of(model.path, choice.folder, metadata, predictions.get(chosen))
            features = read_features(model.path, choice.folder, metadata, predictions.get(chosen))
            heat += features.layers
            scene = subject_scene(choice.folder, chosen, metadata.label_space, file, options, heat)
        if second is not None:
            scene = with_second_layer(scene, second, dataset, metadata.label_space, chosen)
        epochs = read_epochs(model, dataset, chosen)
        scene = with_epoch_layers(scene, epochs, metadata.label_space)
        found = Found(
            findings_url(model.path, dataset, predictions.get(chosen), scene),
            surface_urls(model.path, dataset, metadata, predictions.get(chosen)),
        )
        once = ShownOnce(target(), features.reveal)
        case_viewer(scene, query_params.get(CROSSHAIR), chosen, found, once)
        view.resampling_note(predictions.get(chosen), scene)
        epochs_controls(epochs)
        features_controls(features)
    follow_training(model.key, choice.folder)
