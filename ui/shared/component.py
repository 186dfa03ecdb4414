"""Components of the browser: plain JavaScript and CSS files of a folder as one Streamlit component."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

ROOT = '<div class="root"></div>\n'
# Every element that the keyboard reaches shows it; files of a component may move the line, not remove it.
FOCUS = ".root :is(button, a, summary, input, select, [tabindex]):focus-visible:not(canvas) "
FOCUS += "{ outline: 2px solid var(--st-link-color, currentColor) !important; }\n"


def component(
    name: str,
    folder: Path,
    scripts: Sequence[str],
    styles: Sequence[str],
    constants: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Register a component; its content is rendered into the element with the class ``root``.

    Parameters
    ----------
    name : str. Name of the component, unique in the app.
    folder : Path. Folder of the files.
    scripts : sequence of str. JavaScript files, joined in this order into one module; the last has the default export.
    styles : sequence of str. CSS files, joined in this order.
    constants : mapping, optional. Plain values that the scripts have as constants of these names.

    Returns
    -------
    Callable. Mounts an instance: ``mount(key=..., data=..., on_<value>_change=...)``.
    """

    def joined(names: Sequence[str]) -> str:
        return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)

    defined = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in (constants or {}).items())
    css, js = FOCUS + joined(styles), defined + joined(scripts)
    return st.components.v2.component(f"segmentarium_{name}", html=ROOT, css=css, js=js)
