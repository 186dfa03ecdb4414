"""The live chart of a run as a Streamlit component: Dice per class and loss on two linked panels.

The browser polls ``/api/runs/<id>/metrics`` for new points; the page does not run again while a run trains.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from ui.shared.component import component

SCRIPTS = ("numbers.js", "rendering.js", "chart.js")

_mount = component("chart", Path(__file__).parent, SCRIPTS, ("chart.css",))


def run_chart(run_id: str, key: str = "chart") -> None:
    """Show the chart of a run; it keeps its zoom and x axis while it updates itself."""
    _mount(key=f"{key}-{run_id}", data={"url": metrics_url(run_id), "run": run_id, "spark": False})


def sparkline(run_id: str, key: str = "spark") -> None:
    """Show the mean Dice of a run as a small line that updates itself."""
    _mount(key=f"{key}-{run_id}", data={"url": metrics_url(run_id), "run": run_id, "spark": True}, height=48)


def metrics_url(run_id: str) -> str:
    """The route that serves the measurements of a run."""
    return f"/api/runs/{quote(run_id, safe='')}/metrics"
