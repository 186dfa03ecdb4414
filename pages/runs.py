"""Runs: the table of all runs, and the selected run with its live chart, or with others in one chart, or a group."""

from __future__ import annotations

import streamlit as st

from core import runs
from core.errors import RunError
from core.runs import groups
from ui.runs import actions, group_view, rows, run_view, ticked
from ui.runs.bell.component import bell
from ui.runs.chart.component import run_chart
from ui.runs.compare_view import compare_view
from ui.runs.first_subject import show_first_subject
from ui.runs.runs_table.component import Selection, runs_table
from ui.shared import formatting
from ui.shared.navigation import page
from ui.shared.paths import runs_root
from ui.shared.state import GROUP, RUN_PARAMETER

FILTER = "run_filter"
SHOW = "run_kind"
STATES = {
    "all": None,
    "running": formatting.WAITING_OR_ACTIVE,
    "finished": ("finished",),
    "ended early": ("stopped", "failed", "crashed"),
}

root = runs_root()
requested = st.query_params.get(RUN_PARAMETER)
all_runs = runs.list_runs(root)
matching = runs.matching_ids(requested or "", {run.id: run.name for run in all_runs})
requested = matching[0] if len(matching) == 1 else requested
all_groups = groups.list_groups(root, all_runs)
group_of = {run_id: summary.group for summary in all_groups for run_id in summary.group.runs}
group_ids = {summary.group.id for summary in all_groups}
given_group = st.query_params.get(GROUP)
matching_groups = runs.matching_ids(given_group or "", {s.group.id: s.group.name for s in all_groups})

bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
with bar:
    st.title("Runs", anchor=False, width="content")

if not all_runs and not requested and not given_group:
    st.info(
        "No runs yet. Start one on the Train page, on Home with the demo data, or in a terminal.",
        icon=":material/info:",
    )
    st.page_link(page("train"), label="Go to Train", icon=":material/model_training:")
    st.stop()

runs.serve_queue(root)  # restarts the queue supervisor after a restart of the machine
with bar:
    st.space("stretch")
    bell()
    text = st.text_input(
        "Filter",
        key=FILTER,
        placeholder="Filter by name, data, preset, tag",
        type="search",
        live=True,
        width=300,
        label_visibility="collapsed",
        persist_state="session",
    )
    kind = st.segmented_control(
        "Show",
        list(STATES),
        default="all",
        required=True,
        key=SHOW,
        label_visibility="collapsed",
        persist_state="session",
    )


def matches(run: runs.RunSummary, group_name: str) -> bool:
    """Whether a run passes the filter."""
    states = STATES[kind or "all"]
    words = f"{run.name} {run.id} {run.config.data.path} {run.config.preset} {run.state.state} {' '.join(run.tags)}"
    words += f" {group_name}"
    return (states is None or run.state.state in states) and all(
        word in words.lower() for word in (text or "").lower().split()
    )


newest = next((r for r in all_runs if r.state.active), all_runs[0] if all_runs else None)
selected = requested or (newest.id if newest else None)
selected_group = given_group
if len(matching_groups) == 1:
    selected_group = matching_groups[0]
elif not given_group and not requested and selected in group_of:
    selected_group = group_of[selected].id
if selected_group:
    selected = None
by_id = {run.id: run for run in all_runs}
compared = [by_id[id] for id in ticked.ticked_runs(by_id, selected)]
colours = ticked.colours_of(compared)


def shown_state(current: list[runs.RunSummary]) -> tuple[str, bool] | None:
    """The state of the selected run and whether it has a checkpoint: what the buttons below the table depend on."""
    found = next((run for run in current if run.id == selected), None)
    return None if found is None else (found.state.state, runs.run_checkpoint(found.folder) is not None)


def choose(row_id: str) -> None:
    """Select a run or a group (callback)."""
    is_group = row_id in group_ids
    st.query_params.pop(RUN_PARAMETER if is_group else GROUP, None)
    st.query_params[GROUP if is_group else RUN_PARAMETER] = row_id


def tick(run_id: str) -> None:
    """Set or remove the tick of a run (callback)."""
    now = chosen_now()
    ticked.toggle(run_id, by_id, now if now in by_id else None)


def chosen_now() -> str | None:
    """The selected run or group by the address, which a click has changed before the page shows it."""
    given_now = (st.query_params.get(GROUP), st.query_params.get(RUN_PARAMETER))
    known = (id for id in given_now if id in group_ids or id in by_id)
    return next(known, selected_group or selected)


@st.fragment(run_every=2.0)
def table(page_state: tuple[str, bool] | None) -> None:
    """The table, updated every two seconds; the page runs again when other runs are selected or ticked, or the state of
    the selected run differs from ``page_state``."""
    current = runs.list_runs(root)
    shown = rows.table_rows(current, groups.list_groups(root, current), matches)
    marked = selected_group or (group_of[selected].id if selected in group_of else selected)
    selection = Selection(marked, colours, full=len(colours) >= ticked.MAX_RUNS)
    runs_table(shown, selection, runs.queued_runs(root), on_choose=choose, on_tick=tick)
    if not shown:
        st.caption("No run matches this filter.")
    ticks_changed = not selected_group and ticked.ticked_runs(by_id, selected) != list(colours)
    if chosen_now() != (selected_group or selected) or ticks_changed or shown_state(current) != page_state:
        st.rerun()


table(shown_state(all_runs))

if selected_group:
    group = next((summary.group for summary in all_groups if summary.group.id == selected_group), None)
    if group is not None:
        group_view.show_group(root, group)
        st.stop()
    name = formatting.plain(selected_group)
    st.warning(f"There is no group called {name}; it may have been deleted.", icon=":material/search_off:")
    if all_runs and st.button("Show the newest run"):
        st.query_params.clear()
        st.rerun()
    st.stop()
if selected in group_of:
    group_view.link_to(group_of[selected])
try:
    run = runs.get_run(root, str(selected))
except RunError:
    name = formatting.plain(str(selected))
    several = f"{len(matching)} runs are called {name} or have ids that begin with it; choose one in the table."
    st.warning(
        several if matching else f"There is no run called {name}; it may have been deleted.",
        icon=":material/search_off:",
    )
    if st.button("Show the newest run"):
        st.query_params.clear()
        st.rerun()
    st.stop()

actions.header(root, run)
run_view.status(root, run.id, every_s=2.0 if run.state.state in formatting.WAITING_OR_ACTIVE else None)
if run.state.state == "starting":
    show_first_subject(run)
run_chart(compared or [run], run.id, colours)
if compared:
    compare_view(root, [other.id for other in compared], colours)
run_view.details(root, run)
