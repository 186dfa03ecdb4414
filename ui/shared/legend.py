"""Small lists in HTML, every text escaped: classes with their colours, facts with their names. The demo's picture."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

import streamlit as st

from core.labels import LabelSpace
from ui.shared.state import PROJECT


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
        f'<span style="{line};padding-right:16px;white-space:nowrap">'
        f'<span style="opacity:.7">{html.escape(name)}</span></span>'
        f'<span style="{line}">{html.escape(text)}</span>'
        for name, text in rows
    )
    st.html(f'<div style="display:grid;grid-template-columns:auto 1fr">{items}</div>')


def demo_picture() -> None:
    """A subject of the demo data, before there is one."""
    st.image(
        PROJECT / "docs" / "images" / "demo-subject.png",
        width=440,
        caption="A subject of the demo data with its labels: synthetic, made from the MNI152 template.",
        alt="Slices of a synthetic brain, T1, T2 and labels",
    )


def class_colours(classes: Sequence[str]) -> list[dict[str, str]]:
    """``[{name, colour}]`` of a run's classes without the background (which comes first in ``classes``)."""
    if len(classes) < 2:
        return []
    return [{"name": c.name, "colour": c.colour} for c in LabelSpace.from_raw(list(enumerate(classes))).foreground]
