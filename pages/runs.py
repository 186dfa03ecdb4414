"""Runs: every run with its state, and the chosen one while it learns."""

from __future__ import annotations

import streamlit as st

from core import runs
from core.errors import RunError
from ui.runs import run_view
from ui.runs.chart.component import run_chart
from ui.runs.runs_table.component import runs_table
from ui.shared import formatting
from ui.shared.navigation import page
from ui.shared.state import RUN_FILTER, RUN_KIND, RUN_PARAMETER, runs_root

SHOW = {
    "all": None,
    "running": formatting.WAITING_OR_ACTIVE,
    "finished": ("finished",),
    "ended early": ("stopped", "failed", "crashed"),
}

root = runs_root()
wanted = st.query_params.get(RUN_PARAMETER)
everything = runs.list_runs(root)

bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
with bar:
    st.title("Runs", anchor=False, width="content")

if not everything and not wanted:
    st.info(
        "No runs yet. Start one on the Train page, on Home with the demo data, or in a terminal.",
        icon=":material/info:",
    )
    st.page_link(page("train"), label="Go to Train", icon=":material/model_training:")
    st.stop()

runs.wake(root)  # runs that wait get their queue keeper back after a restart of the machine
with bar:
    st.space("stretch")
    text = st.text_input(
        "Filter", key=RUN_FILTER, placeholder="Filter by name, data, preset, tag", type="search", live=True, width=300,
        label_visibility="collapsed", persist_state="session",
    )  # fmt: skip
    kind = st.segmented_control(
        "Show", list(SHOW), default="all", required=True, key=RUN_KIND, label_visibility="collapsed",
        persist_state="session",
    )  # fmt: skip


def fits(run: runs.RunSummary) -> bool:
    states = SHOW[kind or "all"]
    haystack = f"{run.name} {run.id} {run.config.data.path} {run.config.preset} {run.state.state} {' '.join(run.tags)}"
    haystack = haystack.lower()
    return (states is None or run.state.state in states) and all(w in haystack for w in (text or "").lower().split())


newest = next((r for r in everything if r.state.active), everything[0] if everything else None)
chosen = wanted or (newest.id if newest else None)


@st.fragment(run_every=2.0)
def table(drawn_state: str | None) -> None:
    """The table, kept up to date; a choice, or another state of the chosen run, draws the whole page again."""
    found = runs.list_runs(root)
    shown = [run for run in found if fits(run)]
    now = runs_table(shown, chosen, runs.queue(root))
    if not shown:
        st.caption("No run fits this filter.")
    if now and now != chosen:
        st.query_params[RUN_PARAMETER] = now
        st.rerun()
    if next((run.state.state for run in found if run.id == chosen), None) != drawn_state:
        st.rerun()


table(next((run.state.state for run in everything if run.id == chosen), None))

try:
    run = runs.get_run(root, str(chosen))
except RunError:
    st.warning(
        f"There is no run called {formatting.plain(str(chosen))}; it may have been deleted.",
        icon=":material/search_off:",
    )
    if st.button("Show the newest run"):
        st.query_params.clear()
        st.rerun()
    st.stop()

run_view.head(root, run)
run_view.status(root, run.id, every=2.0 if run.state.state in formatting.WAITING_OR_ACTIVE else None)
run_chart(run.id)
run_view.details(root, run)
