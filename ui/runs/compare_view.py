"""Runs side by side: curves on top of one another, what they were told to do differently, what came out, as CSV."""

from __future__ import annotations

import math
from pathlib import Path

import streamlit as st

from core import runs
from core.errors import UserError
from core.formatting import format_score
from core.runs import Comparison, RunSummary
from ui.shared.errors import error_box

MOST = 6  # curves that can be told apart
FIRST = ("val/dice_mean", "whole/dice_mean", "train/loss")  # what people look at first, where it was measured
FROM_DATA = "from the data"
MARKED = 60  # points of a curve up to which each is marked
WIDTH = 480  # px that a table should have
AXES = {"epoch": "epoch", "step": "step", "time": "elapsed_s"}


def compare_view(root: Path, run: RunSummary) -> None:
    """Choose runs to put beside this one, and look at them together."""
    others = {r.id: r for r in runs.list_runs(root) if r.id != run.id and (r.state.step or r.state.best is not None)}
    if not run.state.step:
        st.caption("This run has measured nothing yet.")
        return
    if not others:
        st.caption("There is no other run with measurements yet. Start a second one, and compare it here.")
        return
    chosen = st.multiselect(
        "Compare with", list(others), key=f"compare-{run.id}", max_selections=MOST - 1, persist_state="session",
        format_func=lambda id: _label(others[id]), placeholder="Choose one or more runs",
    )  # fmt: skip
    ids = [run.id, *(id for id in chosen if id in others)]
    if len(ids) < 2:
        st.caption("Their curves, their settings and their results appear here, side by side.")
        return
    try:
        found = runs.compare(root, ids)
    except UserError as error:
        error_box(error)
        return
    _curves(found)
    _tables(found)
    _exports(root, found, ids)


def _label(run: RunSummary) -> str:
    best = f", Dice {format_score(run.state.best.mean_dice)}" if run.state.best else ""
    return f"{run.name} ({run.state.state}{best})"


def _names(found: Comparison) -> list[str]:
    """The names of the runs; where two are the same, with the end of the id."""
    names = [run.name for run in found.runs]
    return [n if names.count(n) == 1 else f"{n} ({run.id[-4:]})" for n, run in zip(names, found.runs, strict=True)]


def _curves(found: Comparison) -> None:
    metrics = sorted(found.curves, key=lambda m: (FIRST.index(m) if m in FIRST else len(FIRST), m))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = st.selectbox("Measurement", metrics, key="compare-metric", width=320)
        axis = st.segmented_control("Along", list(AXES), default="epoch", required=True, key="compare-axis")
    along = AXES[axis or "epoch"]
    points = [
        {"x": getattr(row, along) / (60 if axis == "time" else 1), "value": row.value, "run": name}
        for name, curve in zip(_names(found), found.curves[metric], strict=True)
        for row in curve
        if not math.isnan(row.value)
    ]
    few = max(len(curve) for curve in found.curves[metric]) <= MARKED
    st.vega_lite_chart(
        {
            "data": {"values": points},
            "mark": {"type": "line", "point": few},
            "encoding": {
                "x": {"field": "x", "type": "quantitative", "title": "minutes" if axis == "time" else axis or "epoch"},
                "y": {"field": "value", "type": "quantitative", "title": metric, "scale": {"zero": False}},
                "color": {"field": "run", "type": "nominal", "title": None, "sort": _names(found)},
                "tooltip": [{"field": "run"}, {"field": "x", "title": axis}, {"field": "value", "format": ".4f"}],
            },
        },
        height=320,
    )


def _tables(found: Comparison) -> None:
    names = _names(found)
    settings = [
        {"setting": field, **{n: text or FROM_DATA for n, text in zip(names, texts, strict=True)}}
        for field, texts in found.differences.items()
    ]
    results = [
        {"measurement": metric, **{n: _number(v) for n, v in zip(names, values, strict=True)}}
        for metric, values in found.measured.items()
    ]
    tables = st.grid("auto", min_column_width=WIDTH, gap="medium")
    with tables, st.container():
        st.caption("Settings that differ")
        if settings:
            st.dataframe(settings, hide_index=True, width="stretch", alt="Settings that differ between the runs")
        else:
            st.caption("They were told to do the same.")
    with tables, st.container():
        st.caption("At the best epoch; loss, learning rate and speed at the end")
        columns = {name: st.column_config.TextColumn(alignment="right") for name in names}
        st.dataframe(
            results, hide_index=True, width="stretch", column_config=columns, alt="What the runs measured, side by side"
        )


def _number(value: float | None) -> str:
    """Three digits after the point; of small numbers two that matter."""
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"


def _exports(root: Path, found: Comparison, ids: list[str]) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "Table as CSV", found.table_csv, file_name="runs.csv", mime="text/csv", icon=":material/download:",
        )  # fmt: skip
        st.download_button(
            "All measurements as CSV", lambda: runs.curves_csv(root, ids), file_name="measurements.csv",
            mime="text/csv", icon=":material/download:",
        )  # fmt: skip
