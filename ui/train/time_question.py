"""The first question of the Train page: how long training may take. The answer sets the time budget."""

from __future__ import annotations

import streamlit as st

from core.presets import preset
from ui.shared.state import PRESET
from ui.train import form

MINUTES = {2.0: "2 minutes", 10.0: "10 minutes", 60.0: "1 hour", 480.0: "overnight", 0.0: "epochs"}
HELP = (
    "Training ends within this time, after which the model is ready; the time for making or reading the data comes "
    "before it; overnight is eight hours. *Epochs*: no limit, it ends after the setting *Epochs*. Any other time: the "
    "setting *Time budget*."
)

# Session keys.
ANSWER = "train_time"
CHOSEN_MINUTES = "train_minutes_chosen"


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
    """Keep the answer for the preset that was chosen (callback)."""
    name = st.session_state[PRESET]
    if name and CHOSEN_MINUTES in st.session_state:
        _set_minutes(name, st.session_state[CHOSEN_MINUTES])


def _answered(preset_name: str) -> None:
    minutes = st.session_state[ANSWER]
    if minutes is None:  # the answer was clicked again: it stays
        return
    st.session_state[CHOSEN_MINUTES] = minutes
    _set_minutes(preset_name, minutes)


def _set_minutes(preset_name: str, minutes: float) -> None:
    form.set_value(preset(preset_name), "minutes", minutes)
