"""The parts of a chosen run's view: name and actions, where it is, what it says, how it was configured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from core import runs
from core.cli.options import command_line
from core.config import changed_fields, field_specs
from core.errors import UserError
from core.presets import PRESETS, preset
from core.runs import RunState, RunSummary
from ui import words
from ui.state import RUN_PARAMETER

LOG_LINES = 200
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
        st.subheader(words.plain(run.name), anchor=False, width="content")
        st.badge(state, color=STATE_COLOURS[state], icon=STATE_ICONS[state])
        st.space("stretch")
        if state in ("queued", "starting", "running"):
            _stop(root, run)
        elif state == "stopping":
            _end_now(root, run)
        if state in runs.RESUMABLE and st.button("Resume", icon=":material/resume:", type="primary"):
            _attempt(runs.resume, root, run.id)
        _rename(root, run)
        if not run.state.active:
            _delete(root, run)


def status(root: Path, run_id: str, every: float | None) -> None:
    """Where the run is, in numbers and words; kept up to date while it lives."""

    @st.fragment(run_every=every)
    def draw() -> None:
        try:
            state = runs.get_run(root, run_id).state
        except UserError:
            return  # deleted elsewhere: the table notices and draws the page again
        _numbers(state)
        _message(state)

    draw()


def details(root: Path, run: RunSummary) -> None:
    """Log, configuration, facts and TensorBoard."""
    log, configuration, facts, boards = st.tabs(["Log", "Configuration", "Facts", "TensorBoard"])
    with log:
        _log(root, run)
    with configuration:
        _configuration(run)
    with facts:
        _facts(run)
    with boards:
        st.caption("Loss, Dice, every class, learning rate and a slice picture per validation:")
        st.code(run.tensorboard, language="bash", wrap_lines=True)


def _numbers(state: RunState) -> None:
    best = state.best
    epochs = f"{state.epoch} / {state.epochs}" if state.epochs else "–"
    speed = f"{state.sub_volumes_per_s:.1f} / s" if state.sub_volumes_per_s else "–"
    left = words.duration(state.remaining_s) if state.active else "–"
    with st.grid(5, min_column_width=130, gap="small"):
        st.metric("Best mean Dice", words.dice(best.mean_dice if best else None), help=_measured(state))
        st.metric("Epoch", epochs)
        st.metric("Time left", left)
        st.metric("Sub-volumes", speed)
        st.metric("Ran for", words.duration(state.elapsed_s or None))


def _measured(state: RunState) -> str:
    best = state.best
    if best is None:
        return "Nothing was measured yet."
    return f"Epoch {best.epoch}, measured on {best.measured_on or 'validation sub-volumes'}, background left out."


def _message(state: RunState) -> None:
    said = words.plain(state.message)
    if state.state in ("failed", "crashed"):
        st.error(
            f"**It {state.state}:** {said or 'it left no message'}  \n{WHAT_NOW[state.state]}", icon=":material/error:"
        )
    elif state.state == "stopped":
        st.caption(f"Stopped{': ' + said if said else ''}. {WHAT_NOW['stopped']}")
    elif state.state == "queued":
        st.caption("It waits for its turn: one run trains at a time.")
    elif state.state == "stopping":
        st.caption("It saves a checkpoint and ends.")
    elif state.active:
        st.caption(words.plain(state.what or "starting"))
    else:
        st.caption(_measured(state))


def _log(root: Path, run: RunSummary) -> None:
    @st.fragment(run_every=3.0 if run.state.active else None)
    def draw() -> None:
        try:
            text = runs.log_tail(root, run.id, LOG_LINES)
        except UserError:
            return
        if text:
            st.code(text, language=None, height=260, wrap_lines=True)
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
    st.caption(f"Preset {words.plain(run.config.preset)} on {words.plain(run.config.data.path or '–')}")
    if rows:
        st.dataframe(rows, hide_index=True, width="stretch", alt="Fields that differ from the preset")
    else:
        st.caption("Nothing differs from the preset.")
    st.code(command_line(run.config, name=run.name if run.name != run.id else ""), language="bash", wrap_lines=True)


def _facts(run: RunSummary) -> None:
    facts = {"run": run.id, **run.state.facts, "classes": ", ".join(run.state.classes[1:]), "folder": str(run.folder)}
    rows = [{"what": name, "value": str(value)} for name, value in facts.items() if value]
    st.dataframe(rows, hide_index=True, width="stretch", alt="Facts about the run")


def _stop(root: Path, run: RunSummary) -> None:
    with st.popover("Stop", icon=":material/stop:", key=f"stop-{run.id}"):
        st.write("It saves a checkpoint and ends; it can be resumed.")
        if st.button("Stop this run", type="primary", key=f"stop-now-{run.id}"):
            _attempt(runs.request_stop, root, run.id)


def _end_now(root: Path, run: RunSummary) -> None:
    with st.popover("End now", icon=":material/stop:", key=f"end-{run.id}"):
        st.write("It does not wait for a checkpoint; what it learned since its last one is lost.")
        if st.button("End this run now", type="primary", key=f"end-now-{run.id}"):
            _attempt(runs.request_stop, root, run.id, True)


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
        st.error(words.plain(str(error)))
    else:
        st.rerun()
