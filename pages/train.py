"""Train: select a data set and a preset, change settings, see the forecast, start."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import streamlit as st

from core import runs
from core.datasets import DataOptions
from core.datasets.splits import split_subjects
from core.errors import UserError
from core.paths import DEMO, data_root
from core.presets import AUTO, PRESET_HELP, PRESET_NAMES, command_line, preset
from core.runs.groups import submit_folds
from core.runs.store.engine_records import LOCAL
from core.runs.store.folder import NAME_LENGTH
from ui.data import doctor_job
from ui.learn.sub_volume_preview import offer_preview, sub_volume_preview
from ui.shared import cache, formatting
from ui.shared.data_options import data_options
from ui.shared.errors import error_box
from ui.shared.navigation import go_to, page, tab_title
from ui.shared.paths import runs_root
from ui.shared.state import DATA, GROUP, PRESET, RUN_PARAMETER, load_from_url, save_to_url
from ui.train import (
    augmentation_view,
    auto_preset,
    engine_choice,
    forecast,
    form,
    readiness,
    search_form,
    time_question,
    url_changes,
)

RUN_NAME = "run_name"
PREVIEW = "preview_sub_volumes"
ALL_FOLDS_HELP = (
    "Cross-validation: a run for each fold, one after another on one device, then mean and spread over all subjects. "
    "On the command line: `submit ... --fold all`"
)

st.title("Train", anchor=False)
choices = cache.dataset_choices()
load_from_url(DATA, DEMO)
load_from_url(PRESET, AUTO, allowed=PRESET_NAMES)
if st.session_state[DATA] not in choices:
    choices = [*choices, st.session_state[DATA]]  # the reason why it cannot be used is shown below
with st.grid(3, min_column_width=360, gap=("small", "large")) as top:
    with top.cell():
        time_question.ask(st.session_state[PRESET])
    with top.cell():
        choice = st.selectbox(
            "Data set",
            choices,
            key=DATA,
            persist_state="session",
            help=f"Folders in {formatting.plain(str(data_root()))}, and the demo data.",
        )
        choice = choice or DEMO
        if choice == DEMO and not cache.demo_exists():
            st.caption("Ten synthetic subjects, made when training starts (once, about a minute).")
    with top.cell():
        name = st.segmented_control(
            "Preset",
            list(PRESET_NAMES),
            required=True,
            key=PRESET,
            persist_state="session",
            on_change=time_question.preset_was_chosen,
        )
        name = name or AUTO
        st.caption(f"{name}: {PRESET_HELP[name]}")
save_to_url(DATA, choice)
save_to_url(PRESET, name)
tab_title("Train", choice)
read_as = data_options(choice)
base = preset(name).with_values({option: getattr(read_as, option) for option in DataOptions.names()})
try:
    summary = cache.dataset_summary(choice, data_options(choice))
    path = DEMO if choice == DEMO else str(cache.dataset_path(choice))
except UserError as error:
    error_box(error)
    st.page_link(page("data"), label="Look at it on the Data page")
    st.stop()
fixed = {"path": path}
augmentation = augmentation_view.AugmentationPreview()
engine = engine_choice.chosen(runs_root())
choices_of_auto = auto_preset.recipe(base, summary, engine)
if choices_of_auto is not None:
    base = choices_of_auto.apply(base)
form.keep_changes(base)
url_changes.load(base)
state = auto_preset.with_reasons(form.read(base, fixed), choices_of_auto)
url_changes.save(state)
problem = None
if state.config is not None:
    try:
        summary = cache.dataset_summary(choice, DataOptions.of_own_data(state.config.data))
    except UserError as error:
        problem = error
options = {
    "modalities": summary.modalities,
    "classes": summary.classes,
    "lateral_pairs": summary.classes,
    "val_subjects": tuple(summary.labelled),
    "test_subjects": tuple(summary.labelled),
}

with st.grid(3, min_column_width=360, gap=("small", "large")) as body:
    with body.cell():
        with st.container(horizontal=True, vertical_alignment="center", height=40, border=False):
            st.header("Training plan", anchor=False)
        can_start = False
        shown = forecast.Forecast(can_start=False)
        if state.config is None:
            st.warning(formatting.plain(form.error_summary(state)))
        elif problem is not None:
            error_box(problem)
        else:
            shown = forecast.render(state.config, summary, engine)
            can_start = shown.can_start
            report = None
            if choice != DEMO:
                report = doctor_job.finished_report(Path(path), DataOptions.of_own_data(state.config.data))
            force = partial(form.set_value, base, "force", True)
            can_start = readiness.render(choice, state.config, summary, report, force) and can_start
        engine = engine_choice.choose(runs_root())
        run_name = st.text_input(
            "Name of the run", key=RUN_NAME, max_chars=NAME_LENGTH, placeholder="optional", persist_state="session"
        )
        split = state.config.split if state.config is not None else None
        has_folds = split is not None and not split.val_subjects and not split.holds_out_nothing
        with st.container(horizontal=True, gap="small"):
            start = st.button(
                "Start training", type="primary", icon=":material/play_arrow:", width="stretch", disabled=not can_start
            )
            start_all = st.button(
                "Train all folds",
                icon=":material/stacks:",
                width="stretch",
                disabled=not (can_start and has_folds),
                help=ALL_FOLDS_HELP,
            )
        if start_all and state.config is not None:
            try:
                group = submit_folds(runs_root(), state.config, run_name or "", engine=engine)
            except UserError as error:
                error_box(error)
            else:
                go_to("runs", **{GROUP: group.id})
        if start and state.config is not None:
            try:
                run_id = runs.submit(runs_root(), state.config, run_name or "", engine=engine)
            except UserError as error:
                error_box(error)
            else:
                go_to("runs", **{RUN_PARAMETER: run_id})
        if state.config is not None:
            st.caption("The same as a command:")
            of_command = auto_preset.command_base(base.with_values({"path": path}), state)
            command = command_line(state.config, name=run_name or "", base=of_command)
            command += "" if engine == LOCAL else f" --engine {engine}"
            st.code(command, language="bash", wrap_lines=True)
            search_form.render(state.config, of_command, run_name or "", options, can_start, engine)
            auto_preset.render_reasons(state.config)
    with body.cell(column_span=2):
        with st.container(horizontal=True, vertical_alignment="center", height=40, border=False):
            st.header("Settings", anchor=False, width="content")
            if state.changed:
                st.badge(f"{len(state.changed)} changed", color="primary")
                st.button("Reset all", type="tertiary", icon=":material/undo:", on_click=form.reset_all, args=(base,))
        with st.container(horizontal=True, gap="medium"):
            wants_places = can_start and offer_preview(PREVIEW)
            wants_augmentation = can_start and augmentation_view.offer_augmentation()
        if state.config is not None and (wants_places or wants_augmentation):
            if choice == DEMO and not cache.demo_exists():
                st.caption("The preview needs the demo data: make it on the Data page, or by a first training.")
            else:
                planned = forecast.forecast(state.config, summary, shown.device)
                dataset = cache.dataset(Path(cache.dataset_path(choice)), DataOptions.of_own_data(state.config.data))
                subjects = split_subjects(summary.labelled, state.config.split).train
                if wants_places:
                    sub_volume_preview(
                        dataset, subjects[0], planned.config.sampling, planned.spacing_mm, state.config.data.crop
                    )
                if wants_augmentation:
                    unoriented = forecast.unoriented_subjects(state.config, summary)
                    augmentation = augmentation_view.render(dataset, subjects, planned, unoriented)
        form.render(base, state, fixed, options)
augmentation.complete()
shown.complete()
