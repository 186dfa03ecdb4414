"""Runs: the table of all runs, and the selected run with its live chart, or with others in one chart, or a group."""

from __future__ import annotations

from functools import partial

import streamlit as st

from core import runs
from core.errors import UserError
from core.runs import engine_poller, groups
from core.runs.group_summary import SweepSummary
from ui.home.starts import train_on_demo
from ui.runs import actions, group_view, other_roots_view, rows, run_view, selection, sweep_view, ticked
from ui.runs.bell.component import bell
from ui.runs.chart.component import run_chart
from ui.runs.compare_view import compare_view
from ui.runs.engines_view import show_engines
from ui.runs.first_subject import show_first_subject
from ui.runs.run_filter import choose_filter
from ui.runs.runs_table.component import Selection, runs_table
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.navigation import page
from ui.shared.network_code import show_code_changes
from ui.shared.paths import runs_root

root = runs_root()
all_runs = runs.list_runs(root)
all_groups = groups.list_groups(root, all_runs)
shown = selection.shown_by_url(all_runs, all_groups)

bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
with bar:
    st.title("Runs", anchor=False, width="content")

if not all_runs and not shown.id:
    st.info(
        "No runs yet. A run is one training of a network: its curves, pictures and results appear here while it "
        "trains, also where it was started in a terminal.",
        icon=":material/info:",
    )
    if not root.is_dir():
        st.caption(f"Runs are looked for in {formatting.plain(str(root))}, which does not exist: is its disk mounted?")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("Train on the demo data", type="primary", icon=":material/play_arrow:"):
            train_on_demo(root)
        st.page_link(page("train"), label="Choose data and settings", icon=":material/model_training:", width="content")
    engine_poller.ensure_pollers(root)
    show_engines(root)
    other_roots_view.show_other_roots(root, None)
    st.stop()

runs.serve_queue(root)  # restarts the queue supervisor after a restart of the machine
engine_poller.ensure_pollers(root)
with bar:
    st.space("stretch")
    bell()
    run_filter = choose_filter()

by_id = {run.id: run for run in all_runs}
groups_by_id = {summary.group.id: summary for summary in all_groups}
group_of = selection.group_by_run(all_groups)
compared = [by_id[id] for id in ticked.ticked_runs(by_id, shown.run)]
colours = ticked.colours_of(compared)


def shown_state(current: list[runs.RunSummary]) -> tuple[str, bool] | None:
    """The state of the selected run and whether it has a checkpoint: what the buttons below the table depend on."""
    found = next((run for run in current if run.id == shown.run), None)
    return None if found is None else (found.state.state, runs.run_checkpoint(found.folder) is not None)


def chosen_now() -> str | None:
    """The selected run or group by the address, which a click has changed before the page shows it."""
    return selection.chosen_now(shown, {**by_id, **groups_by_id})


def tick(run_id: str) -> None:
    """Set or remove the tick of a run (callback)."""
    now = chosen_now()
    ticked.toggle(run_id, by_id, now if now in by_id else None)


@st.fragment(run_every=2.0)
def table(page_state: tuple[str, bool] | None) -> None:
    """The table, updated every two seconds; the page runs again when other runs are selected or ticked, or the state of
    the selected run differs from ``page_state``."""
    try:
        current = runs.list_runs(root)
    except UserError as error:  # its file system has gone since the page was drawn
        error_box(error)
        return
    table_rows = rows.table_rows(current, groups.list_groups(root, current), run_filter.matches)
    marked = group_of[shown.run].id if shown.run in group_of else shown.id
    selected = Selection(marked, colours, full=len(colours) >= ticked.MAX_RUNS)
    choose = partial(selection.choose, group_ids=groups_by_id)
    runs_table(table_rows, selected, runs.queue_of(current), on_choose=choose, on_tick=tick)
    if not table_rows:
        st.caption("No run matches this filter.")
    ticks_changed = not shown.group and ticked.ticked_runs(by_id, shown.run) != list(colours)
    if chosen_now() != shown.id or ticks_changed or shown_state(current) != page_state:
        st.rerun()


table(shown_state(all_runs))
show_engines(root)
other_roots_view.show_other_roots(root, shown.run, run_filter.matches)

if other_roots_view.is_other(shown.run):
    other_roots_view.show_other_run(root, str(shown.run))
    st.stop()
if shown.group in groups_by_id:
    group = groups_by_id[shown.group]
    if isinstance(group, SweepSummary):
        sweep_view.show_sweep(root, group)
    else:
        group_view.show_group(root, group)
    st.stop()
if shown.group or shown.run not in by_id:
    selection.report_unknown(shown)
    st.stop()
if shown.run in group_of:
    group_view.link_to(group_of[shown.run])
run = by_id[shown.run]
actions.header(root, run)
run_view.report_problem(run)
if (checkpoint := runs.run_checkpoint(run.folder)) is not None:
    show_code_changes(checkpoint)
run_view.status(root, run.id, every_s=2.0 if run.state.state in formatting.WAITING_OR_ACTIVE else None)
if run.state.state == "starting":
    show_first_subject(run)
run_chart(compared or [run], run.id, colours)
if compared:
    compare_view(root, [other.id for other in compared], colours)
run_view.details(root, run)
