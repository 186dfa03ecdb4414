"""Renders the figures over cases on the Review page; a click on a point of a case opens that case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from ui.review.figures import Layout, Traces

CLEAR = "rgba(0,0,0,0)"  # of plots that share an axis plotly draws the background, in another colour than the page's
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}

DESCRIPTIONS = {  # for screen readers
    "agreement": "Bland-Altman plot: difference of the volumes over their mean, a point per case",
    "confusion": "Confusion between classes: reference in rows, prediction in columns",
    "surface": "Histogram of the surface distances in both directions, with the largest one of each case",
    "border": "Share of wrong voxels by their distance to a class border",
    "calibration": "Reliability diagram: how often a class is there, by the probability that the model gives it",
    "models": "Values of the first model and of the second one, a point per case",
}

OpenCase = Callable[[str], None]


def show_chart(figure: tuple[Traces, Layout], name: str, open_case: OpenCase | None) -> None:
    """Render a figure; a click on a point with custom data of one id opens that case.

    Parameters
    ----------
    figure : tuple. Traces and layout.
    name : str. Key in :data:`DESCRIPTIONS`.
    open_case : callable, optional. Opens a case; without it a click does nothing.
    """
    from plotly.graph_objects import Figure  # loaded where there is a figure

    key = f"review-figure-{name}"

    def clicked() -> None:
        for point in st.session_state[key].selection.points:
            id = _case_of(point.get("customdata"))
            if id is not None and open_case is not None:
                open_case(id)
                return

    traces, layout = figure
    drawn = Figure(traces, {**layout, "plot_bgcolor": CLEAR})
    if open_case is None:
        st.plotly_chart(drawn, key=key, config=CONFIG, alt=DESCRIPTIONS[name])
    else:
        st.plotly_chart(
            drawn,
            key=key,
            config=CONFIG,
            on_select=clicked,
            selection_mode="points",
            alt=DESCRIPTIONS[name],
        )


def _case_of(custom: Any) -> str | None:
    """The id in the custom data of a point; ``None`` for a point of several cases."""
    if isinstance(custom, list) and len(custom) == 1:
        custom = custom[0]
    return custom if isinstance(custom, str) else None
