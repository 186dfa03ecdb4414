"""Comparison of runs: curves in one chart, settings that differ, results, and both as CSV."""

from __future__ import annotations

import math
from pathlib import Path

import streamlit as st

from core import runs
from core.errors import UserError
from core.formatting import format_score
from core.runs import Comparison, RunSummary
from ui.shared.errors import error_box

MAX_RUNS = 6  # with more, the curves cannot be distinguished
FIRST_METRICS = ("val/dice_mean", "whole/dice_mean", "train/loss")  # at the top of the list
FROM_DATA = "from the data"
MAX_MARKERS = 60  # longer curves have no marker per point
TABLE_WIDTH = 480  # px
AXES = {"epoch": "epoch", "step": "step", "time": "elapsed_s"}


def compare_view(root: Path, run: RunSummary) -> None:
    """Choose runs to compare with a run, and show the comparison."""
    others = {r.id: r for r in runs.list_runs(root) if r.id != run.id and (r.state.step or r.state.best is not None)}
    if not run.state.step:
        st.caption("This run has no measurements yet.")
        return
    if not others:
        st.caption("No other run has measurements yet. Start a second one to compare it here.")
        return
    chosen = st.multiselect(
        "Compare with",
        list(others),
        key=f"compare-{run.id}",
        max_selections=MAX_RUNS - 1,
        persist_state="session",
        format_func=lambda id: _label(others[id]),
        placeholder="Choose one or more runs",
    )
    ids = [run.id, *(id for id in chosen if id in others)]
    if len(ids) < 2:
        st.caption("Curves, settings and results appear here side by side.")
        return
    try:
        comparison = runs.compare(root, ids)
    except UserError as error:
        error_box(error)
        return
    _curves(comparison)
    _tables(comparison)
    _exports(root, comparison, ids)


def _label(run: RunSummary) -> str:
    best = f", Dice {format_score(run.state.best.mean_dice)}" if run.state.best else ""
    return f"{run.name} ({run.state.state}{best})"


def _names(comparison: Comparison) -> list[str]:
    """Names of the runs; equal names are followed by the end of the run id."""
    names = [run.name for run in comparison.runs]
    return [n if names.count(n) == 1 else f"{n} ({r.id[-4:]})" for n, r in zip(names, comparison.runs, strict=True)]


def _curves(comparison: Comparison) -> None:
    names = _names(comparison)
    metrics = sorted(comparison.curves, key=lambda m: (FIRST_METRICS.index(m) if m in FIRST_METRICS else 99, m))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = st.selectbox("Measurement", metrics, key="compare-metric", width=320)
        axis = st.segmented_control("Along", list(AXES), default="epoch", required=True, key="compare-axis")
    attribute = AXES[axis or "epoch"]
    points = [
        {"x": getattr(row, attribute) / (60 if axis == "time" else 1), "value": row.value, "run": name}
        for name, curve in zip(names, comparison.curves[metric], strict=True)
        for row in curve
        if not math.isnan(row.value)
    ]
    with_markers = max(len(curve) for curve in comparison.curves[metric]) <= MAX_MARKERS
    st.vega_lite_chart(
        {
            "data": {"values": points},
            "mark": {"type": "line", "point": with_markers},
            "encoding": {
                "x": {"field": "x", "type": "quantitative", "title": "minutes" if axis == "time" else axis or "epoch"},
                "y": {"field": "value", "type": "quantitative", "title": metric, "scale": {"zero": False}},
                "color": {"field": "run", "type": "nominal", "title": None, "sort": names},
                "tooltip": [{"field": "run"}, {"field": "x", "title": axis}, {"field": "value", "format": ".4f"}],
            },
        },
        height=320,
    )


def _tables(comparison: Comparison) -> None:
    names = _names(comparison)
    settings = [
        {"setting": field, **{n: text or FROM_DATA for n, text in zip(names, texts, strict=True)}}
        for field, texts in comparison.differences.items()
    ]
    results = [
        {"measurement": metric, **{n: _number(v) for n, v in zip(names, values, strict=True)}}
        for metric, values in comparison.measured.items()
    ]
    tables = st.grid("auto", min_column_width=TABLE_WIDTH, gap="medium")
    with tables, st.container():
        st.caption("Settings that differ")
        if settings:
            st.dataframe(settings, hide_index=True, width="stretch", alt="Settings that differ between the runs")
        else:
            st.caption("All settings are the same.")
    with tables, st.container():
        st.caption("At the best epoch; training loss, learning rate and speed at the end")
        columns = {name: st.column_config.TextColumn(alignment="right") for name in names}
        st.dataframe(
            results, hide_index=True, width="stretch", column_config=columns, alt="Results of the runs, side by side"
        )


def _number(value: float | None) -> str:
    """Three decimals; two significant digits for small numbers."""
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"


def _exports(root: Path, comparison: Comparison, ids: list[str]) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "Table as CSV",
            comparison.table_csv,
            file_name="runs.csv",
            mime="text/csv",
            icon=":material/download:",
        )
        st.download_button(
            "All measurements as CSV",
            lambda: runs.curves_csv(root, ids),
            file_name="measurements.csv",
            mime="text/csv",
            icon=":material/download:",
        )
