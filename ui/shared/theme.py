"""Colours of text and background on light and on dark pages, for figures that have to name them."""

from __future__ import annotations

import streamlit as st

INK_AND_PAPER = {"light": ("#1b1f27", "rgba(255,255,255,.8)"), "dark": ("#e6e8ec", "rgba(15,18,23,.8)")}  # by theme


def ink_and_paper() -> tuple[str, str]:
    """The colour of text on the page, and a translucent one of its background; of the light page while the theme of
    the browser is not known."""
    return INK_AND_PAPER.get(st.context.theme.type or "", INK_AND_PAPER["light"])
