"""Figures over cases on the page."""

from __future__ import annotations

import json
from typing import Any

from streamlit.testing.v1 import AppTest


def page() -> None:
    from ui.review.charts import show_chart

    layout = {"yaxis": {"domain": [0.3, 1]}, "yaxis2": {"domain": [0, 0.2]}}
    bars = [{"type": "bar", "y": [1, 2]}, {"type": "bar", "y": [3, 4], "yaxis": "y2"}]
    show_chart((bars, layout), "calibration", None)


def test_plots_that_share_an_axis_have_no_background_of_another_colour_than_the_page() -> None:
    (chart,) = AppTest.from_function(page).run(timeout=30).get("plotly_chart")
    spec: dict[str, Any] = json.loads(chart.proto.spec)
    assert spec["layout"]["plot_bgcolor"] == "rgba(0,0,0,0)" and spec["layout"]["yaxis2"]["domain"] == [0, 0.2]
