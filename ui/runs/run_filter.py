"""The filter of the table of runs: words and a kind of state, both part of the URL."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from core.runs import RESUMABLE, RunSummary
from ui.shared import formatting
from ui.shared.state import load_from_url, save_to_url

WORDS, KIND = "run_filter", "run_kind"  # session keys
KINDS = {
    "all": None,
    "running": formatting.WAITING_OR_ACTIVE,
    "finished": ("finished",),
    "ended early": RESUMABLE,
}


@dataclass(frozen=True)
class RunFilter:
    """Which runs the table shows.

    Attributes
    ----------
    words : tuple of str. All of them are in the name, id, data, preset, state or tags of a run, or its group's name.
    kind : str. Key of ``KINDS``.
    """

    words: tuple[str, ...]
    kind: str

    def matches(self, run: RunSummary, group_name: str) -> bool:
        """Whether a run passes the filter; the name of its group is empty for none."""
        states = KINDS[self.kind]
        text = f"{run.name} {run.id} {run.config.data.path} {run.config.preset} {run.state.state} {' '.join(run.tags)}"
        text = f"{text} {group_name}".lower()
        return (states is None or run.state.state in states) and all(word in text for word in self.words)


def choose_filter() -> RunFilter:
    """Render the field for words and the choice of a kind."""
    load_from_url(WORDS, "", parameter="filter")
    text = st.text_input(
        "Filter",
        key=WORDS,
        placeholder="Filter by name, data, preset, tag",
        type="search",
        live=True,
        width=300,
        label_visibility="collapsed",
        persist_state="session",
    )
    save_to_url(WORDS, text or "", "filter", "")
    load_from_url(KIND, "all", KINDS, "show")
    kind = st.segmented_control(
        "Show", list(KINDS), required=True, key=KIND, label_visibility="collapsed", persist_state="session"
    )
    save_to_url(KIND, kind or "all", "show", "all")
    return RunFilter(tuple((text or "").lower().split()), kind or "all")
