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
CHOSEN_MINUTES = "train_minutes_chosen"
_SHOWN, _REPLACED = "train_time_shown", "train_time_replaced"  # the answer shown, and how often another one replaced it


def ask(preset_name: str) -> None:
    """Render the question; the answer shown is the time budget of the form, if it is one of the choices.

    An answer that replaces the one shown has a widget of its own: a browser that has not received it yet sends the old
    one with its next edit, which is no click.
    """
    minutes = form.field_value(preset(preset_name), "minutes")
    answer = minutes if minutes in MINUTES else None
    if answer != st.session_state.get(_SHOWN, answer):
        st.session_state[_REPLACED] = st.session_state.get(_REPLACED, 0) + 1
    key = f"train_time.{st.session_state.get(_REPLACED, 0)}"
    st.session_state.setdefault(key, answer)
    chosen = st.segmented_control(
        "How long may it take?", list(MINUTES), key=key, format_func=lambda value: MINUTES[value], help=HELP
    )
    st.session_state[_SHOWN] = answer if chosen is None else chosen
    if chosen == answer:
        return
    if chosen is None:  # the answer was clicked again: it stays
        st.session_state[_REPLACED] = st.session_state.get(_REPLACED, 0) + 1
        st.rerun()
    st.session_state[CHOSEN_MINUTES] = chosen
    _set_minutes(preset_name, chosen)


def preset_was_chosen() -> None:
    """Keep the answer for the preset that was chosen (callback)."""
    name = st.session_state[PRESET]
    if name and CHOSEN_MINUTES in st.session_state:
        _set_minutes(name, st.session_state[CHOSEN_MINUTES])


def _set_minutes(preset_name: str, minutes: float) -> None:
    form.set_value(preset(preset_name), "minutes", minutes)
