"""A table of numbers per class, each class with its colour."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import streamlit as st

_TABLE = "width:100%;border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums"
_SWATCH = "display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px"
_HEADER = "opacity:.75"
_NAME = "padding:4px 0;min-width:4em;font-weight:400"
_CELL = "padding:4px 0 4px 9px;font-weight:400"
_LINE = "border-top:1px solid color-mix(in srgb, currentColor 14%, transparent)"


@dataclass(frozen=True)
class ClassRow:
    """A row of the table.

    Attributes
    ----------
    name : str. Name of the class.
    values : sequence of str. One per column.
    colour : str. Colour of the class (#rrggbb); empty for a row that is not a class.
    note : str. Small text after the name.
    """

    name: str
    values: Sequence[str]
    colour: str = ""
    note: str = ""


def class_table(columns: Sequence[str], rows: Iterable[ClassRow], name_column: str = "") -> None:
    """Render the table; all text is escaped.

    Parameters
    ----------
    columns : sequence of str. Headers of the columns after the name.
    name_column : str. Header of the column of names.
    """
    lines = [_line("th", html.escape(name_column), columns, _HEADER)]
    for row in rows:
        swatch = f'<i style="{_SWATCH};background:{html.escape(row.colour)}"></i>' if row.colour else ""
        note = f" <small>({html.escape(row.note)})</small>" if row.note else ""
        lines.append(_line("td", swatch + html.escape(row.name) + note, row.values, _LINE))
    st.html(f'<table style="{_TABLE}">{"".join(lines)}</table>')


def _line(tag: str, name_html: str, values: Sequence[str], style: str) -> str:
    cells = "".join(f'<{tag} style="{_CELL};text-align:right">{html.escape(value)}</{tag}>' for value in values)
    name_tag = "th" if name_html else "td"  # a header without text is none
    return f'<tr style="{style}"><{name_tag} style="{_NAME};text-align:left">{name_html}</{name_tag}>{cells}</tr>'
