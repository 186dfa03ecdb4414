"""Train: choose data and a preset, change what should differ, see what will happen, start."""

from __future__ import annotations

import streamlit as st

from core import runs
from core.errors import UserError
from core.presets import DEFAULT_PRESET, PRESET_HELP, PRESETS, command_line, preset
from ui.shared import formatting
from ui.shared.cache import data_choices, data_facts, data_path, demo_is_there
from ui.shared.errors import error_box
from ui.shared.navigation import page
from ui.shared.state import (
    DATA,
    DEMO,
    PRESET,
    RUN_NAME,
    RUN_PARAMETER,
    data_root,
    put_into_address,
    runs_root,
    take_from_address,
)
from ui.train import forecast, form

st.title("Train", anchor=False)
choices = data_choices()
take_from_address(DATA, DEMO)
take_from_address(PRESET, DEFAULT_PRESET, among=tuple(PRESETS))
if st.session_state[DATA] not in choices:
    choices = [*choices, st.session_state[DATA]]  # says below why it cannot be used
with st.grid(2, min_column_width=380, gap=("small", "large")) as top:
    with top.cell():
        choice = st.selectbox(
            "Data set", choices, key=DATA, persist_state="session",
            help=f"Folders in {formatting.plain(str(data_root()))}, and the demo data.",
        )  # fmt: skip
        if choice in (None, DEMO) and not demo_is_there():
            st.caption("Ten synthetic subjects, made when training starts (once, about a minute).")
    with top.cell():
        name = st.segmented_control("Preset", list(PRESETS), required=True, key=PRESET, persist_state="session")
        st.caption(f"{name}: {PRESET_HELP[name or DEFAULT_PRESET]}")
choice = choice or DEMO
put_into_address(DATA, choice)
put_into_address(PRESET, name or DEFAULT_PRESET)
base = preset(name or DEFAULT_PRESET)
try:
    facts = data_facts(choice)
    path = DEMO if choice == DEMO else str(data_path(choice))
except UserError as error:
    error_box(error)
    st.page_link(page("data"), label="Look at it on the Data page")
    st.stop()
fixed = {"path": path}
options = {
    "modalities": facts.modalities, "classes": facts.classes,
    "val_subjects": facts.labelled, "test_subjects": facts.labelled,
}  # fmt: skip
filled = form.read(base, fixed, options)

with st.grid(3, min_column_width=360, gap=("small", "large")) as body:
    with body.cell():
        with st.container(horizontal=True, vertical_alignment="center", height=40, border=False):
            st.subheader("What will happen", anchor=False)
        fits = False
        if filled.config is None:
            st.warning(formatting.plain(form.wrong(filled)))
        else:
            fits = forecast.draw(filled.config, facts)
        run_name = st.text_input(
            "Name of the run", key=RUN_NAME, max_chars=80, placeholder="optional", persist_state="session"
        )
        start = st.button(
            "Start training", type="primary", icon=":material/play_arrow:", width="stretch", disabled=not fits
        )
        if start and filled.config is not None:
            try:
                run_id = runs.engine(runs_root()).submit(filled.config, run_name or "")
            except UserError as error:
                error_box(error)
            else:
                st.switch_page(page("runs"), query_params={RUN_PARAMETER: run_id})
        if filled.config is not None:
            st.caption("The same as a command:")
            st.code(command_line(filled.config, name=run_name or ""), language="bash", wrap_lines=True)
    with body.cell(column_span=2):
        with st.container(horizontal=True, vertical_alignment="center", height=40, border=False):
            st.subheader("Settings", anchor=False, width="content")
            if filled.changed:
                st.badge(f"{len(filled.changed)} changed", color="primary")
                st.button(
                    "Reset all", type="tertiary", icon=":material/undo:", on_click=form.reset_all, args=(base,)
                )  # fmt: skip
        form.draw(base, filled, fixed, options)
