"""Small lists in HTML, every text escaped: classes with their colours, facts with their names."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

import streamlit as st


def legend(colours: Mapping[str, str]) -> None:
    """Draw ``{class name: colour}`` as a row of swatches."""
    items = "".join(
        '<span style="display:inline-flex;gap:6px;align-items:center">'
        f'<span style="width:11px;height:11px;border-radius:3px;background:{html.escape(colour)}"></span>'
        f"{html.escape(name)}</span>"
        for name, colour in colours.items()
    )
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:4px 14px;font-size:13px">{items}</div>')


def facts_list(rows: Iterable[tuple[str, str]]) -> None:
    """Draw (name, text) pairs as a quiet two-column list."""
    line = "border-top:1px solid color-mix(in srgb, currentColor 14%, transparent);padding:5px 0"
    items = "".join(
        f'<span style="{line};opacity:.7;white-space:nowrap">{html.escape(name)}</span>'
        f'<span style="{line}">{html.escape(text)}</span>'
        for name, text in rows
    )
    st.html(f'<div style="display:grid;grid-template-columns:auto 1fr;column-gap:16px">{items}</div>')
