"""Whether an engine answers, as a badge, and a sentence about it beside the badge."""

from __future__ import annotations

import streamlit as st

from ui.shared import formatting


def engine_badge(answers: bool | None, sentence: str) -> None:
    """Show whether an engine answers, and a sentence.

    Parameters
    ----------
    answers : bool or None. ``None`` where that is not known.
    sentence : str. Its state in words (:mod:`core.runs.engine_poller`).
    """
    if answers is not None:
        st.badge("answers" if answers else "does not answer", color="green" if answers else "red")
    sentence = sentence.removeprefix("does not answer: ")  # the badge says it
    st.caption(formatting.plain(formatting.sentence(sentence)), width="content")
