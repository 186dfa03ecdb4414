"""The parts of a chosen run's view: name and actions, where it is, what it says, how it was configured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from core import runs
from core.config import changed_fields, field_specs
from core.errors import UserError
from core.formatting import format_duration, format_score
from core.presets import PRESETS, command_line, preset
from core.runs import RunState, RunSummary
from ui.runs.compare_view import compare_view
from ui.runs.results import best_dice
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.navigation import page
from ui.shared.state import MODEL, RUN_PARAMETER

LOG_LINES = 200
MOST_CLASSES = 4  # whose Dice fits beside the other numbers; the chart and its table show all
FROM_DATA = "from the data"
Colour = Literal["red", "orange", "green", "blue", "gray", "primary"]
STATE_COLOURS: dict[str, Colour] = {
    "queued": "gray",
    "starting": "blue",
    "running": "green",
    "stopping": "orange",
    "stopped": "gray",
    "finished": "primary",
    "failed": "red",
    "crashed": "red",
}
STATE_ICONS = {
    "queued": ":material/schedule:",
    "starting": ":material/hourglass_top:",
    "running": ":material/play_circle:",
    "stopping": ":material/pending:",
    "stopped": ":material/stop_circle:",
    "finished": ":material/check_circle:",
    "failed": ":material/error:",
    "crashed": ":material/heart_broken:",
}
WHAT_NOW = {
    "failed": "Mend the cause and resume it, or start another run on the Train page.",
    "crashed": "Resume it: it goes on from its last checkpoint.",
    "stopped": "Resume it whenever you like: it goes on from its last checkpoint.",
}


def head(root: Path, run: RunSummary) -> None:
    """Name, state, and what can be done with the run now."""
    state = run.state.state
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(formatting.plain(run.name), anchor=False, width="content")
        st.badge(state, color=STATE_COLOURS[state], icon=STATE_ICONS[state])
        st.space("stretch")
        if run.state.best is not None and st.button("Review", icon=":material/compare:"):
            st.switch_page(page("review"), query_params={MODEL: run.id})
        if state == "queued":
            _move(root, run)
        if state in ("queued", "starting", "running"):
            _stop(root, run)
        elif state == "stopping":
            _end_now(root, run)
        way: Literal["primary", "secondary"] = "secondary" if state == "failed" else "primary"  # first mend the cause
        if state in runs.RESUMABLE and st.button("Resume", icon=":material/resume:", type=way):
            _attempt(runs.resume, root, run.id)
        _duplicate(root, run)
        _rename(root, run)
        if not run.state.active:
            _delete(root, run)


def status(root: Path, run_id: str, every: float | None) -> None:
    """Where the run is, in numbers and words; kept up to date while it lives."""

    @st.fragment(run_every=every)
    def draw() -> None:
        try:
            run = runs.get_run(root, run_id)
        except UserError:
            return  # deleted elsewhere: the table notices and draws the page again
        if run.state.epoch or run.state.active:
            _numbers(run, best_dice(root, run))
        _message(run.state, _waiting_for(root, run))

    draw()


def details(root: Path, run: RunSummary) -> None:
    """Log, configuration, other runs beside it, notes, facts and TensorBoard."""
    log, configuration, beside, notes, facts, boards = st.tabs(
        ["Log", "Configuration", "Compare", "Notes", "Facts", "TensorBoard"]
    )
    with log:
        _log(root, run)
    with configuration:
        _configuration(run)
    with beside:
        compare_view(root, run)
    with notes:
        _notes(root, run)
    with facts:
        _facts(run)
    with boards:
        st.caption("Loss, Dice, every class, learning rate and a slice picture per validation:")
        st.code(run.tensorboard, language="bash", wrap_lines=True)


def _numbers(run: RunSummary, dice: Mapping[str, float]) -> None:
    """The best Dice, also per class where the classes are few, and how far and how fast."""
    state, best = run.state, run.state.best
    numbers = [("Epoch", f"{state.epoch} / {formatting.total_epochs(run)}" if state.epochs else "–")]
    if state.active:
        numbers += [
            ("Time left", format_duration(state.remaining_s)),
            ("Sub-volumes / s", f"{state.sub_volumes_per_s:.2f}" if state.sub_volumes_per_s else "–"),
        ]
    numbers.append(("Ran for", format_duration(state.elapsed_s or None)))
    with st.grid("auto", min_column_width=128, gap="small"):
        st.metric("Best mean Dice", format_score(best.mean_dice if best else None), help=_measured(state))
        if len(dice) <= MOST_CLASSES:
            for name, value in dice.items():
                st.metric(formatting.plain(name), format_score(value), help="Dice of this class at the best epoch.")
        for name, shown in numbers:
            st.metric(name, shown)


def _waiting_for(root: Path, run: RunSummary) -> str:
    """What a queued run waits for, as a sentence."""
    order = runs.queue(root)
    if run.state.state != "queued" or run.id not in order:
        return ""
    before = order.index(run.id)
    return f"{formatting.count(before, 'waiting run')} before it." if before else "It is next."


def _measured(state: RunState) -> str:
    best = state.best
    if best is None:
        return "Nothing was measured yet."
    return f"Epoch {best.epoch}, measured on {best.measured_on or 'validation sub-volumes'}, background left out."


def _message(state: RunState, waiting_for: str) -> None:
    said = formatting.plain(state.message.removesuffix("; it can be resumed"))
    if state.state in ("failed", "crashed"):
        st.error(
            f"**It {state.state}:** {said or 'it left no message'}  \n{WHAT_NOW[state.state]}", icon=":material/error:"
        )
    elif state.state == "stopped":
        st.caption(f"Stopped{': ' + said if said else ''}. {WHAT_NOW['stopped']}")
    elif state.state == "queued":
        st.caption(f"It waits for its turn: each GPU, or else the CPU, trains one run at a time. {waiting_for}")
    elif (silent := state.stalled_s(time.time())) is not None:
        st.warning(
            f"**No sign of life for {format_duration(silent)}.** It may wait for a disk or a network, or hang; its "
            "machine may have slept. It is left alone: wait, or stop it, and resume it from its last checkpoint.",
            icon=":material/hourglass_disabled:",
        )
    elif state.state == "stopping":
        st.caption("It saves a checkpoint and ends.")
    elif state.active:
        st.caption(formatting.plain(formatting.sentence(state.what or "starting")))
    else:
        st.caption(_measured(state))


def _log(root: Path, run: RunSummary) -> None:
    @st.fragment(run_every=3.0 if run.state.active else None)
    def draw() -> None:
        try:
            text = runs.engine(root).logs(run.id, LOG_LINES)
        except UserError:
            return
        if text:
            tall = text.count("\n") > 8
            st.code(text, language=None, height=260 if tall else "content", wrap_lines=True)
        else:
            st.caption("Nothing was said yet.")

    draw()


def _configuration(run: RunSummary) -> None:
    base = preset(run.config.preset) if run.config.preset in PRESETS else type(run.config)()
    specs = {spec.name: spec for spec in field_specs()}
    rows = [
        {
            "field": name,
            "preset": specs[name].format(old) or FROM_DATA,
            "this run": specs[name].format(new) or FROM_DATA,
        }
        for name, (old, new) in changed_fields(run.config, base).items()
        if name != "path"
    ]  # fmt: skip
    st.caption(f"Preset {formatting.plain(run.config.preset)} on {formatting.plain(run.config.data.path or '–')}")
    if rows:
        st.dataframe(rows, hide_index=True, width="stretch", alt="Fields that differ from the preset")
    else:
        st.caption("Nothing differs from the preset.")
    st.code(command_line(run.config, name=run.name if run.name != run.id else ""), language="bash", wrap_lines=True)


def _facts(run: RunSummary) -> None:
    facts = {"run": run.id, **run.state.facts, "classes": ", ".join(run.state.classes[1:]), "folder": str(run.folder)}
    rows = [{"what": name, "value": str(value)} for name, value in facts.items() if value]
    st.dataframe(rows, hide_index=True, width="stretch", alt="Facts about the run")


def _move(root: Path, run: RunSummary) -> None:
    """Where it stands in the queue, if others wait too."""
    order = runs.queue(root)
    if run.id not in order or len(order) < 2:
        return
    place = order.index(run.id)
    ways: tuple[tuple[runs.Turn, str, str, bool], ...] = (
        ("first", ":material/vertical_align_top:", "Start it before all others that wait", place == 0),
        ("earlier", ":material/arrow_upward:", "One place earlier", place == 0),
        ("later", ":material/arrow_downward:", "One place later", place == len(order) - 1),
    )
    for to, icon, help, there in ways:
        if st.button("", icon=icon, help=help, type="tertiary", disabled=there, key=f"move-{to}-{run.id}"):
            _attempt(runs.move, root, run.id, to)


def _stop(root: Path, run: RunSummary) -> None:
    with st.popover("Stop", icon=":material/stop:", key=f"stop-{run.id}"):
        st.write("It saves a checkpoint and ends; it can be resumed.")
        if st.button("Stop this run", type="primary", key=f"stop-now-{run.id}"):
            _attempt(runs.engine(root).stop, run.id)


def _end_now(root: Path, run: RunSummary) -> None:
    with st.popover("End now", icon=":material/stop:", key=f"end-{run.id}"):
        st.write("It does not wait for a checkpoint; what it learned since its last one is lost.")
        if st.button("End this run now", type="primary", key=f"end-now-{run.id}"):
            _attempt(runs.engine(root).stop, run.id, True)


def _notes(root: Path, run: RunSummary) -> None:
    """What people write about the run; tags are found by the filter of the table."""
    text = st.text_area(
        "Notes", value=run.notes, height=120, key=f"notes-{run.id}", placeholder="What it is for, what came out"
    )
    known = sorted({tag for other in runs.list_runs(root) for tag in other.tags} | set(run.tags))
    tags = st.multiselect(
        "Tags", known, default=list(run.tags), accept_new_options=True, key=f"tags-{run.id}", placeholder="Add tags"
    )
    if st.button("Keep them", key=f"annotate-{run.id}", disabled=(text, tuple(tags)) == (run.notes, run.tags)):
        _attempt(lambda: runs.annotate(root, run.id, notes=text, tags=tags))


def _duplicate(root: Path, run: RunSummary) -> None:
    with st.popover("Duplicate", icon=":material/content_copy:", type="tertiary", key=f"duplicate-{run.id}"):
        st.write("A new run with the same settings, from the beginning.")
        name = st.text_input("Name", value=f"{run.name[:70]} again", max_chars=80, key=f"copy-{run.id}")
        if st.button("Start it", type="primary", key=f"duplicate-now-{run.id}"):
            try:
                st.query_params[RUN_PARAMETER] = runs.duplicate(root, run.id, name or "")
            except UserError as error:
                error_box(error)
            else:
                st.rerun()


def _rename(root: Path, run: RunSummary) -> None:
    with st.popover("Rename", icon=":material/edit:", type="tertiary", key=f"rename-{run.id}"):
        name = st.text_input("Name", value=run.name, max_chars=80, key=f"name-{run.id}")
        if st.button("Rename it", key=f"rename-now-{run.id}"):
            _attempt(runs.rename, root, run.id, name or "")


def _delete(root: Path, run: RunSummary) -> None:
    with st.popover("Delete", icon=":material/delete:", type="tertiary", key=f"delete-{run.id}"):
        st.write("Its checkpoints, measurements and predictions are removed for good.")
        if st.button("Delete this run", type="primary", key=f"delete-now-{run.id}"):
            st.query_params.pop(RUN_PARAMETER, None)
            _attempt(runs.delete, root, run.id)


def _attempt(action: Callable[..., Any], *arguments: Any) -> None:
    """Do it and draw the page again; what cannot be done is said where it was asked."""
    try:
        action(*arguments)
    except UserError as error:
        error_box(error)
    else:
        st.rerun()
