"""Figures over the cases of a model, as traces and layout of plotly. A point of a case has its id as custom data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from core.evaluation.agreement import Agreement
from core.evaluation.case_analysis import BORDER_MM, STEP_MM, STEPS, CaseAnalysis
from core.formatting import format_number

Traces: TypeAlias = list[dict[str, Any]]
Layout: TypeAlias = dict[str, Any]
HEIGHT = 340
MARGIN = {"l": 8, "r": 8, "t": 8, "b": 8}
REFERENCE, PREDICTION, LINE = "#5fc8e8", "#d55e00", "#8b909a"  # of the two directions, and of lines and quiet marks
DIAGONAL = [[0, "rgba(139,144,154,0.10)"], [1, "rgba(139,144,154,0.35)"]]
WRONG = [[0, "rgba(213,94,0,0.04)"], [1, "rgba(213,94,0,0.85)"]]
MAX_TEXT_CLASSES = 12  # with more classes the cells of a confusion have no text
MAX_CASES = 40  # with a line each
LEAST_VOXELS = 50  # fewer at a distance give no share of wrong ones
UNITS = {"%": "% of the class", "ml": "ml", "voxels": "voxels"}


def faint(colour: str) -> str:
    """A translucent colour, for the lines of single cases. The opacity of a trace makes browsers blend its whole
    rectangle, whose rounding errors add up to another background on dark pages.

    Parameters
    ----------
    colour : str. As ``#rrggbb``.
    """
    return "rgba({},{},{},0.35)".format(*bytes.fromhex(colour.removeprefix("#")))


def confusion_figure(pooled: CaseAnalysis, unit: str, ink: str) -> tuple[Traces, Layout]:
    """Classes of the reference (rows) by classes of the prediction (columns).

    Parameters
    ----------
    pooled : CaseAnalysis. Counts of all cases.
    unit : str. Key of :data:`UNITS`: what the cells say; their colour is by percent.
    ink : str. Colour of text on the page.
    """
    percent, classes = pooled.confusion_percent, list(pooled.classes)
    on_diagonal = np.eye(len(classes), dtype=bool)
    values = {"%": percent, "ml": pooled.confusion_ml, "voxels": pooled.confusion.astype(float)}[unit]
    decimals = {"%": 2, "ml": 2, "voxels": 0}[unit]
    text = [[format_number(float(v), decimals, missing="", grouped=True) for v in row] for row in values]
    hover = [
        [
            f"{t} taken for {p}: {format_number(float(percent[i, j]), 2)} % of {t}, "
            f"{format_number(float(pooled.confusion_ml[i, j]), 2, grouped=True)} ml, "
            f"{int(pooled.confusion[i, j]):,} voxels"
            for j, p in enumerate(classes)
        ]
        for i, t in enumerate(classes)
    ]
    traces: Traces = []
    for is_shown, scale in ((on_diagonal, DIAGONAL), (~on_diagonal, WRONG)):
        z = np.where(is_shown, percent, np.nan)
        top = float(np.nanmax(z)) if np.isfinite(z).any() else 1.0
        traces.append(
            {
                "type": "heatmap",
                "x": classes,
                "y": classes,
                "z": [[None if math.isnan(v) else float(v) for v in row] for row in z],
                "zmin": 0,
                "zmax": max(top, 1e-6),
                "colorscale": scale,
                "showscale": False,
                "hovertext": hover,
                "hoverinfo": "text",
                "xgap": 2,
                "ygap": 2,
            }
        )
    if len(classes) <= MAX_TEXT_CLASSES:
        # Not as text of the cells: plotly takes their colours for opaque, and writes dark on dark pages.
        traces.append(
            {
                "type": "scatter",
                "mode": "text",
                "x": classes * len(classes),
                "y": [t for t in classes for _ in classes],
                "text": [value for row in text for value in row],
                "textfont": {"color": ink},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    layout: Layout = {
        "height": max(220, 90 + 46 * len(classes)) if len(classes) <= MAX_TEXT_CLASSES else 90 + 18 * len(classes),
        "margin": MARGIN,
        "xaxis": {"title": {"text": "prediction"}, "type": "category", "automargin": True, "showgrid": False},
        "yaxis": {
            "title": {"text": "reference"}, "type": "category", "autorange": "reversed", "automargin": True,
            "showgrid": False,
        },
    }  # fmt: skip
    return traces, layout


def agreement_figure(
    volumes: Mapping[str, tuple[float, float]], limits: Agreement, colour: str
) -> tuple[Traces, Layout]:
    """Bland-Altman: difference of the volumes over their mean, with bias and limits of agreement.

    Parameters
    ----------
    volumes : mapping. Volume in ml of reference and prediction by case.
    limits : Agreement. Of these volumes.
    colour : str. Of the points.
    """
    means = [(t + p) / 2 for t, p in volumes.values()]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": means,
        "y": [p - t for t, p in volumes.values()],
        "customdata": list(volumes),
        "marker": {"size": 9, "color": colour, "line": {"width": 1, "color": LINE}},
        "hovertemplate": "<b>%{customdata}</b>: mean %{x:.4g} ml, difference %{y:+.4g} ml<extra></extra>",
    }
    lines = [("bias", limits.bias, "solid"), ("", limits.lower, "dash"), ("", limits.upper, "dash")]
    drawn = [line for line in lines if math.isfinite(line[1])]
    layout: Layout = {
        "height": HEIGHT,
        "margin": MARGIN,
        "showlegend": False,
        "xaxis": {"title": {"text": "mean of reference and prediction (ml)"}, "automargin": True},
        "yaxis": {"title": {"text": "prediction − reference (ml)"}, "automargin": True, "zeroline": True},
        "shapes": [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": {"dash": dash, "color": LINE}}
            for _, y, dash in drawn
        ],
        "annotations": [
            {
                "xref": "paper", "x": 1, "y": y, "xanchor": "right", "yanchor": "bottom", "showarrow": False,
                "text": f"{name} {format_number(y, 2)} ml".strip(),
            }
            for name, y, _ in drawn
        ],
    }  # fmt: skip
    return [points], layout


def surface_figure(analyses: Mapping[str, CaseAnalysis], pooled: CaseAnalysis, name: str) -> tuple[Traces, Layout]:
    """Histogram of the surface distances of a class in both directions, and the largest distance of each case."""
    counts = pooled.surface[name]
    ways = (("from the reference", counts.truth, REFERENCE), ("from the prediction", counts.prediction, PREDICTION))
    last = max(int(np.flatnonzero(steps).max(initial=0)) for _, steps, _ in ways)
    shown = min(last, STEPS - 1) + 1
    traces: Traces = []
    for title, steps, colour in ways:
        shares = 100.0 * steps / max(1, int(steps.sum()))
        traces.append(
            {
                "type": "bar",
                "name": title,
                "x": [(n + 0.5) * STEP_MM for n in range(shown)],
                "y": shares[:shown].tolist(),
                "customdata": [[n * STEP_MM, (n + 1) * STEP_MM, int(steps[n])] for n in range(shown)],
                "marker": {"color": colour, "opacity": 0.65},
                "hovertemplate": "%{customdata[0]} to %{customdata[1]} mm: %{y:.3g} % (%{customdata[2]} voxels)"
                f"<extra>{title}</extra>",
            }
        )
    largest = {id: a.surface[name].largest_mm for id, a in analyses.items() if name in a.surface}
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "largest of a case",
            "x": list(largest.values()),
            "y": [1.0] * len(largest),
            "yaxis": "y2",
            "customdata": list(largest),
            "marker": {"size": 9, "color": LINE, "symbol": "line-ns-open"},
            "hovertemplate": "<b>%{customdata}</b>: largest distance %{x:.1f} mm<extra></extra>",
        }
    )
    layout: Layout = {
        "height": HEIGHT,
        "margin": MARGIN,
        "barmode": "overlay",
        "bargap": 0.05,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {"title": {"text": "distance to the other surface (mm)"}, "rangemode": "tozero", "automargin": True},
        "yaxis": {"title": {"text": "% of the surface"}, "domain": [0, 0.86], "automargin": True},
        "yaxis2": {"domain": [0.9, 1], "visible": False, "range": [0, 2]},
    }
    return traces, layout


def beyond_surface_figure(pooled: CaseAnalysis, name: str) -> str:
    """What the histogram of surface distances does not show, as a sentence; empty where it shows all."""
    counts = pooled.surface[name]
    beyond = int(counts.truth[STEPS] + counts.prediction[STEPS])
    if not beyond:
        return ""
    share = 100 * beyond / int(counts.truth.sum() + counts.prediction.sum())
    return f"{format_number(share, 1)} % of the voxels, beyond {STEPS * STEP_MM:g} mm, are not in the figure."


def beyond_border_figure(pooled: CaseAnalysis) -> str:
    """Wrong voxels that the figure of errors by distance does not show, as a sentence; empty where there are none."""
    wrong = sum(int(counts.wrong[BORDER_MM]) for counts in pooled.border.values())
    return f"{wrong:,} wrong voxels, farther than {BORDER_MM} mm, are not in the figure." if wrong else ""


def border_figure(
    analyses: Mapping[str, CaseAnalysis], pooled: CaseAnalysis, name: str, colours: Mapping[str, str]
) -> tuple[Traces, Layout]:
    """Share of wrong voxels by their distance to a class border: all classes, and each case of one of them."""
    traces: Traces = []
    for id in most_wrong(analyses, name):
        mm, shares, voxels = _border_points(analyses[id], name)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": mm,
                "y": shares,
                "customdata": [id] * len(mm),
                "text": voxels,
                "showlegend": False,
                "marker": {"size": 6, "color": faint(colours.get(name, LINE))},
                "line": {"width": 1, "color": faint(colours.get(name, LINE))},
                "hovertemplate": f"<b>%{{customdata}}</b>: %{{y:.3g}} % wrong of %{{text}} voxels<extra>{name}</extra>",
            }
        )
    for class_name in pooled.border:
        mm, shares, voxels = _border_points(pooled, class_name)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": class_name,
                "x": mm,
                "y": shares,
                "text": voxels,
                "line": {"width": 3, "color": colours.get(class_name, LINE)},
                "hovertemplate": f"%{{y:.3g}} % wrong of %{{text}} voxels<extra>{class_name}</extra>",
            }
        )
    layout: Layout = {
        "height": HEIGHT,
        "margin": MARGIN,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {
            "title": {"text": "distance to the nearest other class in the reference (mm)"},
            "range": [0, BORDER_MM],
            "automargin": True,
        },
        "yaxis": {"title": {"text": "% wrong"}, "rangemode": "tozero", "automargin": True},
    }
    return traces, layout


def most_wrong(analyses: Mapping[str, CaseAnalysis], name: str) -> list[str]:
    """The cases with the most wrong voxels of a class of the reference, at most :data:`MAX_CASES`."""
    wrong = {id: int(a.border[name].wrong.sum()) for id, a in analyses.items() if name in a.border}
    return sorted(wrong, key=lambda id: -wrong[id])[:MAX_CASES]


def _border_points(analysis: CaseAnalysis, name: str) -> tuple[list[float], list[float], list[str]]:
    """Middle of the steps in mm, percent of wrong voxels, and number of voxels, where there are enough of them."""
    counts = analysis.border[name]
    steps: Sequence[int] = [n for n in range(BORDER_MM) if counts.voxels[n] >= LEAST_VOXELS]
    shares = [100.0 * float(counts.wrong[n]) / float(counts.voxels[n]) for n in steps]
    return [n + 0.5 for n in steps], shares, [f"{int(counts.voxels[n]):,}" for n in steps]


def case_with_most(analyses: Mapping[str, CaseAnalysis], truth: int, prediction: int) -> tuple[str, float]:
    """The case with the largest volume of a confusion of two class indices, and that volume in ml."""
    volumes = {id: float(analysis.confusion_ml[truth, prediction]) for id, analysis in analyses.items()}
    worst = max(volumes, key=lambda id: volumes[id])
    return worst, volumes[worst]
