"""Colours, icons and advice for the states of a run, and a title with one."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from core.runs import RunSummary
from core.runs.store.folder import has_training_state
from ui.shared import formatting

Colour = Literal["red", "orange", "green", "blue", "gray", "violet"]
STATE_COLOURS: dict[str, Colour] = {
    "queued": "gray",
    "starting": "blue",
    "running": "green",
    "stopping": "orange",
    "stalled": "orange",
    "unreachable": "orange",
    "stopped": "gray",
    "finished": "violet",  # the accent, whose text has too little contrast in the dark
    "failed": "red",
    "crashed": "red",
}
STATE_ICONS = {
    "queued": ":material/schedule:",
    "starting": ":material/hourglass_top:",
    "running": ":material/play_circle:",
    "stopping": ":material/pending:",
    "stalled": ":material/hourglass_disabled:",
    "unreachable": ":material/cloud_off:",
    "stopped": ":material/stop_circle:",
    "finished": ":material/check_circle:",
    "failed": ":material/error:",
    "crashed": ":material/heart_broken:",
}
_FROM = "continues from its last checkpoint"
_ANEW = "begins anew, as it has no checkpoint"


def next_step(run: RunSummary) -> str:
    """What to do about a run that has ended, or of which nothing is heard."""
    resumed = _FROM if has_training_state(run.folder) else _ANEW
    return {
        "failed": f"Fix the cause and resume it, or start another run on the Train page. Resumed, it {resumed}.",
        "crashed": f"Resume it: it {resumed}.",
        "stalled": f"It is not ended automatically: wait, or stop and resume it. Resumed, it {resumed}.",
        "unreachable": "It may still train: nothing is ended, resumed or deleted before a heartbeat arrives or it "
        f"ends. If its machine is gone for good: `segmentarium runs give-up {run.id}`.",
        "stopped": f"It can be resumed at any time; it then {resumed}.",
    }[run.state.state]


def title_with_state(name: str, state: str) -> None:
    """Show the name of a run or group as a header, and its state as a badge."""
    st.header(formatting.plain(name), anchor=False, width="content")
    st.badge(state, color=STATE_COLOURS[state], icon=STATE_ICONS[state])
