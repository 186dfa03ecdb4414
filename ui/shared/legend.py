"""Legends and lists of facts as escaped HTML, and the picture of the demo data."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

import streamlit as st

from core.labels import IGNORE_COLOUR, LabelSpace
from core.paths import project_root
from core.runs.store.state import RunState


def legend(colours: Mapping[str, str], ignored: str = "") -> None:
    """Show ``{class name: colour}`` as a row of swatches, and the ignore label, if there is one, with a hatched one."""
    items = [_swatch(name, html.escape(colour)) for name, colour in colours.items()]
    if ignored:
        hatching = f"repeating-linear-gradient(135deg,{IGNORE_COLOUR} 0 2px,#00000073 2px 4px)"
        items.append(_swatch(f"{ignored} (left out)", hatching))
    style = "display:flex;flex-wrap:wrap;gap:4px 14px;font-size:13px;max-height:116px;overflow-y:auto"
    st.html(f'<div style="{style}">{"".join(items)}</div>')


def _swatch(name: str, background: str) -> str:
    """A coloured square and a name; the background is CSS."""
    return (
        '<span style="display:inline-flex;gap:6px;align-items:center">'
        f'<span style="width:11px;height:11px;border-radius:3px;background:{background}"></span>'
        f"{html.escape(name)}</span>"
    )


def facts_list(rows: Iterable[tuple[str, str]]) -> None:
    """Show (name, value) pairs as a list of two columns."""
    line = "border-top:1px solid color-mix(in srgb, currentColor 14%, transparent);padding:5px 0"
    items = "".join(
        f'<span style="{line};padding-right:16px;white-space:nowrap">'
        f'<span style="opacity:.7">{html.escape(name)}</span></span>'
        f'<span style="{line}">{html.escape(text)}</span>'
        for name, text in rows
    )
    st.html(f'<div style="display:grid;grid-template-columns:auto 1fr;font-size:0.95rem">{items}</div>')


def demo_picture() -> None:
    """Show a subject of the demo data from a stored image."""
    st.image(
        project_root() / "docs" / "images" / "demo-subject.png",
        width=440,
        caption="A subject of the demo data with its labels: synthetic, made from the MNI152 template.",
        alt="Slices of a synthetic brain, T1, T2 and labels",
    )


def class_colours(state: RunState) -> list[dict[str, str]]:
    """``[{name, colour}]`` of the classes of a run, the background left out."""
    if len(state.classes) < 2:
        return []
    # Version 0.1 did not store colours: they were those of the palette.
    colours = state.colours or tuple(
        c.colour for c in LabelSpace.from_raw(list(enumerate(state.classes)), ignore="none").classes
    )
    named = zip(state.classes, colours, strict=False)
    return [{"name": name, "colour": colour} for name, colour in named][1:]
