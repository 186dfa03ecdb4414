"""Figures over cases on the page."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from core.evaluation.case_analysis import CaseAnalysis
from ui.review.figures import confusion_figure


def page() -> None:
    from ui.review.charts import show_chart

    layout = {"yaxis": {"domain": [0.3, 1]}, "yaxis2": {"domain": [0, 0.2]}}
    bars = [{"type": "bar", "y": [1, 2]}, {"type": "bar", "y": [3, 4], "yaxis": "y2"}]
    show_chart((bars, layout), "calibration", None)


def test_plots_that_share_an_axis_have_no_background_of_another_colour_than_the_page() -> None:
    (chart,) = AppTest.from_function(page).run(timeout=30).get("plotly_chart")
    spec: dict[str, Any] = json.loads(chart.proto.spec)
    assert spec["layout"]["plot_bgcolor"] == "rgba(0,0,0,0)" and spec["layout"]["yaxis2"]["domain"] == [0, 0.2]


def test_numbers_of_a_confusion_are_in_the_colour_of_the_page_and_in_their_cells() -> None:
    """As text of cells plotly writes them in a colour for opaque cells: dark on the dark page."""
    counts = np.array([[90, 10], [5, 15]])
    traces, _ = confusion_figure(
        CaseAnalysis(("background", "tumour"), counts, counts / 1000, {}, {}), "voxels", "#e6e8ec"
    )
    cells, (numbers,) = traces[:-1], traces[-1:]
    assert all(cell["type"] == "heatmap" and "texttemplate" not in cell for cell in cells)
    assert numbers["mode"] == "text" and numbers["textfont"]["color"] == "#e6e8ec"
    written = dict(zip(zip(numbers["y"], numbers["x"], strict=True), numbers["text"], strict=True))
    assert written == {
        ("background", "background"): "90",
        ("background", "tumour"): "10",
        ("tumour", "background"): "5",
        ("tumour", "tumour"): "15",
    }
