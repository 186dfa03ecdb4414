"""Measures of the subjects on the Data page: a figure per group, and the subjects that are unlike the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core.formatting import format_list
from ui.data.pictures import show_pictures
from ui.shared import formatting

TITLES = {
    "size": "Size",
    "voxel size": "Voxel size",
    "intensity": "Intensity",
    "labels": "Volume of the classes",
    "memory": "Memory",
}
HELP = {
    "size": "Voxels along i (left to right), j (back to front) and k (bottom to top).",
    "intensity": "Median of the voxels that are not 0, in each modality.",
    "labels": "Ignored voxels do not count.",
    "memory": "What training keeps of a subject: images in half precision and a byte per label, before it is resampled "
    "or cropped.",
}
MAX_POINTS = 400  # of a row, that are all drawn; with more, a box stands for them
ROW_HEIGHT, PLOT_HEIGHT = 44, 64  # pixels
ORANGE, BLUE = "#e8871e", "#3b82c4"  # readable on dark and on light
LOG_RATIO = 20.0  # of the largest to the smallest value, from which an axis is logarithmic
# Without a format plotly labels the ticks between powers of ten with a single digit.
LOG_AXIS = {"type": "log", "dtick": "D2", "tickformat": "~g"}
MAX_REASONS = 3
_PREFIXES = {"size": "size ", "voxel size": "voxel size ", "intensity": "intensity of ", "labels": "volume of "}


def show_measures(report: Mapping[str, Any], folder: Path) -> None:
    """Show the measures of a report, with the pictures of unusual subjects from its folder."""
    measures = report.get("measures") or ()  # reports of earlier versions have none
    if not measures:
        if "measures" in report:
            st.caption("No subject can be measured yet: mend the errors first.")
        else:
            st.caption(
                "The report was made by a version without measures. *Check again*, below *Import options*, makes it."
            )
        return
    _show_unusual(measures, report["subjects"], folder)
    groups = [group for group in TITLES if any(m["group"] == group for m in measures)]
    columns = st.grid(2, min_column_width=420, gap="medium")
    for group in groups:
        with columns, st.container():
            st.markdown(f"**{TITLES[group]}**", help=HELP.get(group))
            _show_group(group, [m for m in measures if m["group"] == group])
    with columns, st.container():
        st.markdown("**Orientation**", help="Axis codes of the files as stored; training reads all as RAS.")
        counts = Counter(s["orientation"] for s in report["subjects"] if s["orientation"])
        rows = [{"axes": axes, "subjects": count} for axes, count in counts.most_common()]
        st.dataframe(rows, hide_index=True, width="content", alt="Orientations of the files")


def _show_unusual(measures: Sequence[Mapping[str, Any]], subjects: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Show the pictures of the subjects that are unlike the others, with the reasons."""
    reasons: dict[str, list[str]] = {}
    for measure in measures:
        for id in measure["outliers"] if measure["group"] != "memory" else ():
            reasons.setdefault(id, []).append(_PREFIXES[measure["group"]] + _row_title(measure["title"]))
    if not reasons:
        st.caption("No subject is unlike the others in size, intensity or volume of the classes.")
        return
    st.markdown(f"**{formatting.count(len(reasons), 'subject')} unlike the others**")
    captions = {id: f"{id}: {format_list(texts, MAX_REASONS)}" for id, texts in reasons.items()}
    show_pictures([s for s in subjects if s["id"] in captions], folder, "unusual_page", captions)


def _show_group(group: str, measures: Sequence[Mapping[str, Any]]) -> None:
    from plotly.graph_objects import Figure  # loaded where there is a figure

    unit = measures[0]["unit"]
    values = [v for m in measures for v in m["values"].values() if v > 0]
    low, high = min(values, default=1.0), max(values, default=1.0)
    traces: list[dict[str, Any]] = []
    titles = [_row_title(m["title"]) for m in measures]
    for title, measure in zip(titles, measures, strict=True):
        traces += _traces(title, measure)
    not_negative = min(_all(measures)) >= 0
    logarithmic = not_negative and group in ("labels", "intensity")
    least = "nonnegative" if not_negative else "normal"
    layout = {
        "height": PLOT_HEIGHT + ROW_HEIGHT * len(measures),
        "margin": {"l": 8, "r": 8, "t": 4, "b": 36},
        "showlegend": False,
        "xaxis": {
            "title": {"text": unit or "stored value"},
            **(LOG_AXIS if logarithmic and high > LOG_RATIO * low else {"rangemode": least}),
            "automargin": True,
        },
        "yaxis": {"categoryarray": titles[::-1], "categoryorder": "array", "automargin": True},
    }
    alt = "; ".join(f"{m['title']}: {len(m['values'])} subjects" for m in measures)
    st.plotly_chart(
        Figure(traces, layout), key=f"measures-{group}", config={"displaylogo": False, "displayModeBar": False}, alt=alt
    )


def _all(measures: Sequence[Mapping[str, Any]]) -> list[float]:
    return [value for measure in measures for value in measure["values"].values()]


def _row_title(title: str) -> str:
    """Title of a row: what the heading of the group says is left out."""
    text = title.removeprefix("voxel size ").removeprefix("size ").removesuffix(", median of the voxels that are not 0")
    return text if len(text) <= 28 else f"{text[:27]}…"


def _traces(title: str, measure: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A box with the points of a measure, and larger points for its outliers."""
    values: Mapping[str, float] = measure["values"]
    unit = f" {measure['unit']}" if measure["unit"] else ""
    hover = f"<b>%{{customdata}}</b>: %{{x:.4g}}{unit}<extra></extra>"
    ordinary = {id: v for id, v in values.items() if id not in measure["outliers"]}
    box = {
        "type": "box",
        "x": list(ordinary.values()),
        "y": [title] * len(ordinary),
        "customdata": list(ordinary),
        "orientation": "h",
        "boxpoints": "all" if len(ordinary) <= MAX_POINTS else False,
        "jitter": 0.7,
        "pointpos": 0,
        "marker": {"size": 5, "color": BLUE, "opacity": 0.6},
        "line": {"width": 1, "color": BLUE},
        "fillcolor": "rgba(59,130,196,.12)",
        "hoveron": "points" if len(ordinary) <= MAX_POINTS else "boxes",
        "hovertemplate": hover,
    }
    unusual = {
        "type": "scatter",
        "mode": "markers",
        "x": [values[id] for id in measure["outliers"]],
        "y": [title] * len(measure["outliers"]),
        "customdata": list(measure["outliers"]),
        "marker": {"size": 11, "color": ORANGE, "symbol": "diamond"},
        "hovertemplate": hover,
    }
    return [box, unusual] if measure["outliers"] else [box]
