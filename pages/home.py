"""Home: what this is, how to begin, what runs now, what came out last."""

from __future__ import annotations

import streamlit as st

from core import runs
from core.errors import UserError
from core.formatting import format_duration, format_score
from core.presets import preset
from core.runs import RunSummary
from ui.runs.chart.component import sparkline
from ui.runs.results import class_dice
from ui.runs.run_view import STATE_COLOURS
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.legend import demo_picture
from ui.shared.navigation import page
from ui.shared.state import DEMO, RUN_PARAMETER, runs_root

root = runs_root()

st.title("Segmentarium", anchor=False)
st.markdown(
    "Train a 3D network to segment brain MRI, watch it learn, and look closely at what it gets right and wrong."
)
with st.container(horizontal=True, gap="small"):
    begin = st.button("Train on the demo data", type="primary", icon=":material/play_arrow:", help=(
        "Makes ten synthetic subjects in the form of iSEG-2017 (once, about a minute) and trains the preset quick on "
        "them: a small network that learns visibly within two minutes on a laptop."
    ))  # fmt: skip
    mine = st.button("My data", icon=":material/database:")
    look = st.button("Look at a trained model", icon=":material/compare:", help=(
        "Opens Review with the ready-made model, which was trained on the demo data, and one synthetic subject that it "
        "never saw."
    ))  # fmt: skip
if begin:
    try:
        run_id = runs.engine(root).submit(preset("quick").with_values({"path": DEMO}), "demo, quick")
    except UserError as error:
        error_box(error)
    else:
        st.switch_page(page("runs"), query_params={RUN_PARAMETER: run_id})
if mine:
    st.switch_page(page("data"))
if look:
    st.switch_page(page("review"))


def card(run: RunSummary, live: bool) -> None:
    """One run: name, where it is or what it reached, and the way to it."""
    state = run.state
    with st.container(border=True, gap="xsmall", height="stretch"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link(page("runs"), label=formatting.plain(run.name), query_params={RUN_PARAMETER: run.id})
            st.space("stretch")
            st.badge(state.state, color=STATE_COLOURS[state.state])
        if live:
            sparkline(run.id)
            parts = [
                f"epoch {state.epoch}" + (f" / {formatting.total_epochs(run)}" if state.epochs else ""),
                f"{format_duration(state.remaining_s)} left" if state.remaining_s is not None else "",
            ]
            waiting = formatting.plain(formatting.sentence(state.what or "waits for its turn"))
            st.caption(" · ".join(p for p in parts if p) if state.epoch else waiting)
        else:
            class_dice(root, run)
            measured = f"mean {format_score(state.best.mean_dice)} on {state.best.measured_on}" if state.best else None
            where = formatting.plain(run.config.data.path.rstrip("/").rsplit("/", 1)[-1])
            st.caption(
                f"{where} · {formatting.plain(measured or 'nothing measured')} · {formatting.ago(state.ended_at)}"
            )


@st.fragment(run_every=3.0)
def overview() -> None:
    """Running now and last results, kept up to date."""
    found = runs.list_runs(root)
    now = [r for r in found if r.state.state in formatting.WAITING_OR_ACTIVE]
    ended = [r for r in found if r.state.state not in formatting.WAITING_OR_ACTIVE][:6]
    if not found:
        first_start()
        return
    st.subheader("Running now", anchor=False)
    if now:
        with st.grid(3, min_column_width=290):
            for run in now[:6]:
                card(run, live=True)
    else:
        st.caption("Nothing trains at the moment.")
    if ended:
        st.subheader("Last results", anchor=False)
        with st.grid(3, min_column_width=290):
            for run in ended:
                card(run, live=False)


def first_start() -> None:
    """What to expect, before anything ran."""
    st.space("small")
    steps = (
        ("learn", "Learn", "What T1 and T2 show, what a network makes of them, what Dice measures."),
        ("data", "Choose data", "The demo data is made for you; the Data page checks your own."),
        ("train", "Train", "A preset fills in every choice. Training goes on without the browser."),
        ("runs", "Watch", "Loss and Dice per class appear on the Runs page while the network learns."),
        ("review", "Look", "Each case slice by slice, the prediction beside the truth, the worst case first."),
        ("predict", "Segment a scan", "Your own images, with any of your models or the ready-made one."),
        ("quiz", "Judge", "Two segmentations of one slice: which one is the ground truth?"),
    )
    with st.grid(2, min_column_width=440, gap="large") as columns:
        with columns.cell():
            for name, title, text in steps:
                with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                    with st.container(width=150):
                        st.page_link(page(name), label=f"**{title}**")
                    st.caption(text)
        with columns.cell():
            demo_picture()


overview()
