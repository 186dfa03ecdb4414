"""The live chart of a run: Dice per class and loss on two linked panels, drawn in the browser.

The chart asks ``/api/runs/<id>/metrics`` for new points itself, so the page need not run again while a run trains.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import streamlit as st

_HERE = Path(__file__).parent
SCRIPTS = ("numbers.js", "drawing.js", "chart.js")  # one module in the browser, in this order

_mount = st.components.v2.component(
    "segmentarium_chart",
    html='<div class="root"></div>\n',
    css=(_HERE / "chart.css").read_text(encoding="utf-8"),
    js="\n".join((_HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
)


def run_chart(run_id: str, key: str = "chart") -> None:
    """Draw the chart of a run; it keeps itself up to date, its zoom and its x axis."""
    _mount(key=f"{key}-{run_id}", data={"url": metrics_url(run_id), "run": run_id, "spark": False})


def sparkline(run_id: str, key: str = "spark") -> None:
    """Draw a small line of the mean Dice of a run; it keeps itself up to date."""
    _mount(key=f"{key}-{run_id}", data={"url": metrics_url(run_id), "run": run_id, "spark": True}, height=48)


def metrics_url(run_id: str) -> str:
    """Where the chart of a run asks for new points."""
    return f"/api/runs/{quote(run_id, safe='')}/metrics"
