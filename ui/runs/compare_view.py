"""Comparison of runs below their chart: Dice side by side, settings that differ, all results, and the table as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core import runs
from core.errors import UserError
from core.formatting import format_measurement
from core.runs import Comparison
from ui.shared.errors import error_box

FROM_DATA = "from the data"
PLOT_WIDTH = 400  # px
COLUMN_WIDTH = 150  # px, of the settings of a run
PLOT_HEIGHT, ROW_HEIGHT = 110, 26  # px: of the plot without its rows, and of a row
# Where Dice was measured, and the marker; of each run the first that it has measured is shown.
DICE = {"whole/dice": "circle", "val/dice": "circle-open"}
MEAN = "mean"


def compare_view(root: Path, ids: Sequence[str], colour_of: Mapping[str, str]) -> None:
    """Show the comparison of two or more runs.

    Parameters
    ----------
    root : Path. Root of the runs.
    ids : sequence of str. Ids of the runs.
    colour_of : mapping. Colour ``#rrggbb`` of each run, by id.
    """
    try:
        comparison = runs.compare(root, ids)
    except UserError as error:
        error_box(error)
        return
    names = runs.distinct_names(comparison.runs)
    columns = st.grid(2, min_column_width=PLOT_WIDTH, gap="medium")
    with columns, st.container():
        _dice_plot(comparison, names, colour_of)
    with columns, st.container():
        _settings(comparison, names)
    _results(comparison, names)


def _dice_plot(comparison: Comparison, names: Sequence[str], colour_of: Mapping[str, str]) -> None:
    """Dice of each class at the best epoch as points in a row, one per run."""
    by_run = [_dice(comparison, n) for n in range(len(names))]
    rows = list(dict.fromkeys(label for _, values in by_run for label in values))
    if not rows:
        return
    from plotly.graph_objects import Figure  # loaded where there is a figure

    st.caption("Dice at the best epoch of each run. Filled: on whole volumes; open: on sub-volumes")
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": list(values.values()),
            "y": list(values),
            "marker": {"size": 11, "color": colour_of[run.id], "symbol": symbol, "line": {"width": 2}},
            "hovertemplate": "%{y}: <b>%{x:.3f}</b><extra>%{fullData.name}</extra>",
        }
        for run, name, (symbol, values) in zip(comparison.runs, names, by_run, strict=True)
    ]
    layout = {
        "height": PLOT_HEIGHT + ROW_HEIGHT * len(rows),
        "margin": {"l": 8, "r": 8, "t": 8, "b": 32},
        "showlegend": False,  # that of the chart above
        "xaxis": {"title": {"text": "Dice"}, "automargin": True},
        "yaxis": {"categoryarray": rows[::-1], "automargin": True},
    }
    st.plotly_chart(Figure(traces, layout), key="compare-dice", config={"displaylogo": False})


def _dice(comparison: Comparison, number: int) -> tuple[str, dict[str, float]]:
    """The marker of a run, and its Dice by class, the mean first."""
    for kind, symbol in DICE.items():
        metrics = {f"{kind}_mean": MEAN} | {
            name: name.removeprefix(f"{kind}/") for name in comparison.measured if name.startswith(f"{kind}/")
        }
        values = {label: comparison.measured.get(name, ()) for name, label in metrics.items()}
        found = {label: column[number] for label, column in values.items() if column}
        known = {label: value for label, value in found.items() if value is not None}
        if known:
            return symbol, known
    return "", {}


def _settings(comparison: Comparison, names: Sequence[str]) -> None:
    settings = [
        {"setting": field, **{n: text or FROM_DATA for n, text in zip(names, texts, strict=True)}}
        for field, texts in comparison.differences.items()
    ]
    st.caption("Settings that differ")
    if settings:
        columns = {name: st.column_config.TextColumn(width=COLUMN_WIDTH) for name in names}  # also of long names
        st.dataframe(
            settings,
            hide_index=True,
            width="stretch",
            column_config=columns,
            alt="Settings that differ between the runs",
        )
    else:
        st.caption("All settings are the same.")


def _results(comparison: Comparison, names: Sequence[str]) -> None:
    results = [
        {"measurement": metric, **{n: format_measurement(v) for n, v in zip(names, values, strict=True)}}
        for metric, values in comparison.measured.items()
    ]
    with st.expander("All results side by side"):
        st.caption("At the best epoch; training loss, learning rate and speed at the end")
        columns = {name: st.column_config.TextColumn(alignment="right") for name in names}
        st.dataframe(
            results, hide_index=True, width="stretch", column_config=columns, alt="Results of the runs, side by side"
        )
        st.download_button(
            "Settings and results as CSV",
            comparison.table_csv,
            file_name="runs.csv",
            mime="text/csv",
            icon=":material/download:",
        )
