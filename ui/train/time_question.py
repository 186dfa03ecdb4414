"""The first question of the Train page: how long training may take. The answer sets the time budget, and the preset."""

from __future__ import annotations

import streamlit as st

from core.presets import preset, preset_for
from ui.shared.state import PRESET
from ui.train import form

MINUTES = {2.0: "2 minutes", 10.0: "10 minutes", 30.0: "30 minutes", 120.0: "2 hours", 0.0: "no limit"}
HELP = (
    "Training ends within this time, after which the model is ready; the time for making or reading the data comes "
    "before it. Without a limit it trains for the number of epochs. Any other time: the setting *Time budget*."
)

# Session keys.
ANSWER = "train_time"
CHOSEN_MINUTES = "train_minutes_chosen"
CHOSEN_PRESET = "train_preset_chosen"


def ask(preset_name: str) -> None:
    """Render the question; the answer shown is the time budget of the form, if it is one of the choices."""
    minutes = form.field_value(preset(preset_name), "minutes")
    st.session_state[ANSWER] = minutes if minutes in MINUTES else None
    st.segmented_control(
        "How long may it take?",
        list(MINUTES),
        key=ANSWER,
        format_func=lambda value: MINUTES[value],
        on_change=_answered,
        args=(preset_name,),
        help=HELP,
    )


def preset_was_chosen() -> None:
    """Keep the answer for the preset that was chosen by hand, and that preset for later answers (callback)."""
    name = st.session_state[PRESET]
    st.session_state[CHOSEN_PRESET] = True
    if name and CHOSEN_MINUTES in st.session_state:
        _set_minutes(name, st.session_state[CHOSEN_MINUTES])


def _answered(preset_name: str) -> None:
    minutes = st.session_state[ANSWER]
    if minutes is None:  # the answer was clicked again: it stays
        return
    st.session_state[CHOSEN_MINUTES] = minutes
    if minutes and not st.session_state.get(CHOSEN_PRESET):
        preset_name = st.session_state[PRESET] = preset_for(minutes)
    _set_minutes(preset_name, minutes)


def _set_minutes(preset_name: str, minutes: float) -> None:
    form.set_value(preset(preset_name), "minutes", minutes)
