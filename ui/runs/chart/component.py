"""The live chart as a Streamlit component: Dice and loss of a run, or of several over each other, on two linked panels,
and the pictures of a run's validations.

The browser polls :func:`metrics_url` for new points; the page does not run again while a run trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from core.runs import RunSummary, distinct_names
from ui.shared.addresses import API
from ui.shared.component import component

SCRIPTS = (
    "../../shared/pixel_ratio.js",
    "../../shared/roving_focus.js",
    "numbers.js",
    "elements.js",
    "source.js",
    "lines.js",
    "pictures.js",
    "export.js",
    "rendering.js",
    "chart.js",
)

_mount = component("chart", Path(__file__).parent, SCRIPTS, ("chart.css",))


def run_chart(runs: Sequence[RunSummary], selected: str, colour_of: Mapping[str, str], key: str = "chart") -> None:
    """Show the chart; it keeps its zoom, x axis and panels while it updates itself, and when other runs are shown.

    Parameters
    ----------
    runs : sequence of RunSummary. The runs whose curves are shown.
    selected : str. Id of the run whose pictures are shown.
    colour_of : mapping. Colour ``#rrggbb`` of each run by id; used where there are several runs.
    key : str. Key of the component.
    """
    ids = [("run", run.id) for run in runs]
    names = distinct_names(runs)
    shown = [_source(run.id, name, colour_of.get(run.id, "")) for run, name in zip(runs, names, strict=True)]
    data = {"runs": shown, "selected": selected, "csv": f"{API}measurements.csv?{urlencode(ids)}", "spark": False}
    _mount(key=key, data=data)


def sparkline(run_id: str, key: str = "spark") -> None:
    """Show the mean Dice of a run as a small line that updates itself."""
    data = {"runs": [_source(run_id)], "selected": run_id, "csv": "", "spark": True}
    _mount(key=f"{key}-{run_id}", data=data, height=48)


def metrics_url(run_id: str) -> str:
    """The route that serves the measurements of a run."""
    return f"{API}runs/{quote(run_id, safe='')}/metrics"


def pictures_url(run_id: str) -> str:
    """The route below which the pictures of a run's validations are served, by step."""
    return f"{API}runs/{quote(run_id, safe='')}/pictures"


def _source(run_id: str, name: str = "", colour: str = "") -> dict[str, Any]:
    urls = {"url": metrics_url(run_id), "pictures": pictures_url(run_id)}
    return {"id": run_id, "name": name, "colour": colour, **urls}
