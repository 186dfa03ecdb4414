"""Colours, icons and advice for the states of a run, and a title with one."""

from __future__ import annotations

from typing import Literal

import streamlit as st

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
NEXT_STEPS = {
    "failed": "Fix the cause and resume it, or start another run on the Train page.",
    "crashed": "Resume it: it continues from its last checkpoint.",
    "stalled": "It is not ended automatically: wait, or stop it and resume it from its last checkpoint.",
    "unreachable": "It may still train: nothing is ended, resumed or deleted before a heartbeat arrives or it ends. "
    "If its machine is gone for good: `segmentarium runs give-up RUN`.",
    "stopped": "It can be resumed at any time and continues from its last checkpoint.",
}


def title_with_state(name: str, state: str) -> None:
    """Show the name of a run or group as a header, and its state as a badge."""
    st.header(formatting.plain(name), anchor=False, width="content")
    st.badge(state, color=STATE_COLOURS[state], icon=STATE_ICONS[state])
