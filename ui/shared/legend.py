"""Legends and lists of facts as escaped HTML, and the picture of the demo data."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

import streamlit as st

from core.labels import LabelSpace
from core.paths import project_root


def legend(colours: Mapping[str, str]) -> None:
    """Show ``{class name: colour}`` as a row of swatches."""
    items = "".join(
        '<span style="display:inline-flex;gap:6px;align-items:center">'
        f'<span style="width:11px;height:11px;border-radius:3px;background:{html.escape(colour)}"></span>'
        f"{html.escape(name)}</span>"
        for name, colour in colours.items()
    )
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:4px 14px;font-size:13px">{items}</div>')


def facts_list(rows: Iterable[tuple[str, str]]) -> None:
    """Show (name, value) pairs as a list of two columns."""
    line = "border-top:1px solid color-mix(in srgb, currentColor 14%, transparent);padding:5px 0"
    items = "".join(
        f'<span style="{line};padding-right:16px;white-space:nowrap">'
        f'<span style="opacity:.7">{html.escape(name)}</span></span>'
        f'<span style="{line}">{html.escape(text)}</span>'
        for name, text in rows
    )
    st.html(f'<div style="display:grid;grid-template-columns:auto 1fr">{items}</div>')


def demo_picture() -> None:
    """Show a subject of the demo data from a stored image."""
    st.image(
        project_root() / "docs" / "images" / "demo-subject.png",
        width=440,
        caption="A subject of the demo data with its labels: synthetic, made from the MNI152 template.",
        alt="Slices of a synthetic brain, T1, T2 and labels",
    )


def class_colours(classes: Sequence[str]) -> list[dict[str, str]]:
    """``[{name, colour}]`` of the classes of a run.

    Parameters
    ----------
    classes : sequence of str. Class names, the background first; it is left out of the result.
    """
    if len(classes) < 2:
        return []
    return [{"name": c.name, "colour": c.colour} for c in LabelSpace.from_raw(list(enumerate(classes))).foreground]
