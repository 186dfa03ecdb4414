"""Home: the ways to start, the runs that train now, and the last results."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from core import runs
from core.errors import UserError
from core.runs import engine_poller, groups
from ui.home.best_runs import best_runs_table
from ui.home.run_card import run_card
from ui.home.shown_runs import ShownRun, shown_runs
from ui.home.starts import start_buttons, steps
from ui.shared.errors import error_box
from ui.shared.navigation import page
from ui.shared.paths import runs_root

MAX_CARDS = 6

root = runs_root()
engine_poller.ensure_pollers(root)

st.title("Segmentarium", anchor=False)
st.markdown("Train a 3D network to segment brain MRI, watch it learn, and examine what it gets right and wrong.")
start_buttons(root, first_visit=not runs.list_runs(root))


def cards(title: str, shown: Sequence[ShownRun]) -> None:
    """A heading and the first runs of a list; a link to the Runs page where there are more."""
    st.header(title, anchor=False)
    with st.grid(3, min_column_width=290):
        for one in shown[:MAX_CARDS]:
            run_card(root, one)
    if len(shown) > MAX_CARDS:
        st.page_link(page("runs"), label=f"All {len(shown)} on the Runs page", icon=":material/monitoring:")


@st.fragment(run_every=3.0)
def overview() -> None:
    """The runs that train now or wait and the last results, updated every three seconds."""
    try:
        all_runs = runs.list_runs(root)
    except UserError as error:  # its file system has gone since the page was drawn
        error_box(error)
        return
    going_on, ended = shown_runs(all_runs, groups.list_groups(root, all_runs))
    if going_on:
        cards("Waiting to start" if all(one.state == "queued" for one in going_on) else "Running now", going_on)
    if ended:
        cards("Last results", ended)
        best_runs_table(all_runs)
    if len(all_runs) < 3:  # the page is new to its user
        steps()


overview()
