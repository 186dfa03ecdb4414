"""Home: first steps, the runs that train now, and the last results."""

from __future__ import annotations

import streamlit as st

from core import runs
from core.errors import UserError
from core.formatting import format_duration, format_score
from core.paths import DEMO
from core.presets import preset
from core.runs import RunSummary
from ui.runs.chart.component import sparkline
from ui.runs.results import class_dice
from ui.runs.states import STATE_COLOURS
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.legend import demo_picture
from ui.shared.navigation import page
from ui.shared.paths import runs_root
from ui.shared.state import RUN_PARAMETER

MAX_CARDS = 6
STEPS = (
    ("learn", "Learn", "T1 and T2, how a network computes labels from them, how Dice is measured."),
    ("data", "Choose data", "The demo data is made for you; the Data page checks your own."),
    ("train", "Train", "A preset has a value for every setting. Training continues without the browser."),
    ("runs", "Watch", "Loss and Dice per class appear on the Runs page while the network learns."),
    ("review", "Review", "Each case slice by slice, the prediction beside the reference, the worst case first."),
    ("predict", "Segment a scan", "Your own images, with any of your models or the ready-made one."),
    ("quiz", "Judge", "Two segmentations of one slice: which one is the ground truth?"),
)

root = runs_root()

st.title("Segmentarium", anchor=False)
st.markdown("Train a 3D network to segment brain MRI, watch it learn, and examine what it gets right and wrong.")
with st.container(horizontal=True, gap="small"):
    train_demo = st.button(
        "Train on the demo data",
        type="primary",
        icon=":material/play_arrow:",
        help="Makes ten synthetic subjects in the format of iSEG-2017 (once, about a minute) and trains the preset "
        "quick on them: a small network that learns visibly within two minutes on a laptop.",
    )
    own_data = st.button("My data", icon=":material/database:")
    review = st.button(
        "Look at a trained model",
        icon=":material/compare:",
        help="Opens Review with the ready-made model, which was trained on the demo data, and one synthetic subject "
        "that was held out from its training.",
    )
if train_demo:
    try:
        run_id = runs.get_backend(root).submit(preset("quick").with_values({"path": DEMO}), "demo, quick")
    except UserError as error:
        error_box(error)
    else:
        st.switch_page(page("runs"), query_params={RUN_PARAMETER: run_id})
if own_data:
    st.switch_page(page("data"))
if review:
    st.switch_page(page("review"))


def card(run: RunSummary) -> None:
    """A run with its progress or its results."""
    state = run.state
    with st.container(border=True, gap="xsmall", height="stretch"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link(page("runs"), label=formatting.plain(run.name), query_params={RUN_PARAMETER: run.id})
            st.space("stretch")
            st.badge(state.state, color=STATE_COLOURS[state.state])
        if state.state in formatting.WAITING_OR_ACTIVE:
            sparkline(run.id)
            parts = [
                f"epoch {state.epoch}" + (f" / {formatting.total_epochs(run)}" if state.epochs else ""),
                f"{format_duration(state.remaining_s)} left" if state.remaining_s is not None else "",
            ]
            activity = formatting.plain(formatting.sentence(state.what or "queued"))
            st.caption(" · ".join(p for p in parts if p) if state.epoch else activity)
        else:
            class_dice(root, run)
            best = state.best
            measured = f"mean {format_score(best.mean_dice)} on {best.measured_on}" if best else "no measurement"
            data = run.config.data.path.rstrip("/").rsplit("/", 1)[-1]
            st.caption(f"{formatting.plain(data)} · {formatting.plain(measured)} · {formatting.ago(state.ended_at)}")


@st.fragment(run_every=3.0)
def overview() -> None:
    """The runs that train now and the last results, updated every three seconds."""
    all_runs = runs.list_runs(root)
    if not all_runs:
        first_steps()
        return
    running = [r for r in all_runs if r.state.state in formatting.WAITING_OR_ACTIVE]
    ended = [r for r in all_runs if r.state.state not in formatting.WAITING_OR_ACTIVE]
    st.subheader("Running now", anchor=False)
    if running:
        with st.grid(3, min_column_width=290):
            for run in running[:MAX_CARDS]:
                card(run)
    else:
        st.caption("No training is running.")
    if ended:
        st.subheader("Last results", anchor=False)
        with st.grid(3, min_column_width=290):
            for run in ended[:MAX_CARDS]:
                card(run)


def first_steps() -> None:
    """What each page is for, shown before the first run."""
    st.space("small")
    with st.grid(2, min_column_width=440, gap="large") as columns:
        with columns.cell():
            for name, title, text in STEPS:
                with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                    with st.container(width=150):
                        st.page_link(page(name), label=f"**{title}**")
                    st.caption(text)
        with columns.cell():
            demo_picture()


overview()
