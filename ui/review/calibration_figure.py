"""The reliability diagram of a model as traces and layout of plotly: how often a class is there, by its probability."""

from __future__ import annotations

from collections.abc import Mapping

from core.evaluation.calibration import CalibrationCounts
from ui.review.figures import LEAST_VOXELS, LINE, MARGIN, MAX_CASES, Layout, Traces, faint

HEIGHT = 420
BARS = 0.17  # share of the height that the numbers of voxels take


def calibration_figure(
    cases: Mapping[str, Mapping[str, CalibrationCounts]],
    pooled: Mapping[str, CalibrationCounts],
    name: str,
    colours: Mapping[str, str],
) -> tuple[Traces, Layout]:
    """Share of the voxels that have a class over its mean probability, of all cases together and of each of them.

    Parameters
    ----------
    cases : mapping. Counts by subject, by class.
    pooled : mapping. Those of all cases together, by class.
    name : str. The class of the thin lines and of the bars.
    colours : mapping. Colour by class.
    """
    traces: Traces = []
    for id in farthest(cases, name):
        given, shares, voxels = _points(cases[id][name])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": given,
                "y": shares,
                "customdata": [id] * len(given),
                "text": voxels,
                "showlegend": False,
                "marker": {"size": 6, "color": faint(colours.get(name, LINE))},
                "line": {"width": 1, "color": faint(colours.get(name, LINE))},
                "hovertemplate": "<b>%{customdata}</b>: given %{x:.3g} %, there in %{y:.3g} % of %{text} voxels"
                f"<extra>{name}</extra>",
            }
        )
    for class_name, counts in pooled.items():
        given, shares, voxels = _points(counts)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": class_name,
                "x": given,
                "y": shares,
                "text": voxels,
                "marker": {"size": 7 if class_name == name else 4, "color": colours.get(class_name, LINE)},
                "line": {"width": 3 if class_name == name else 1.5, "color": colours.get(class_name, LINE)},
                "hovertemplate": "given %{x:.3g} %, there in %{y:.3g} % of %{text} voxels"
                f"<extra>{class_name}</extra>",
            }
        )
    bins = pooled[name].bins()
    traces.append(
        {
            "type": "bar",
            "x": [50 * (one.low + one.high) for one in bins],
            "y": [one.voxels or None for one in bins],
            "width": [100 * (one.high - one.low) * 0.9 for one in bins],
            "yaxis": "y2",
            "showlegend": False,
            "customdata": [[round(100 * one.low), round(100 * one.high), f"{one.voxels:,}"] for one in bins],
            "marker": {"color": colours.get(name, LINE), "opacity": 0.65},
            "hovertemplate": "%{customdata[0]} to %{customdata[1]} %: %{customdata[2]} voxels"
            f"<extra>{name}</extra>",
        }
    )
    layout: Layout = {
        "height": HEIGHT,
        "margin": MARGIN,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {"title": {"text": "probability given (%)"}, "range": [0, 100], "automargin": True, "anchor": "y2"},
        "yaxis": {
            "title": {"text": "% that have the class"}, "range": [0, 100], "domain": [BARS + 0.05, 1],
            "automargin": True,
        },
        "yaxis2": {"title": {"text": "voxels"}, "type": "log", "domain": [0, BARS], "nticks": 3, "automargin": True},
        "shapes": [
            {
                "type": "line", "x0": 0, "y0": 0, "x1": 100, "y1": 100, "xref": "x", "yref": "y",
                "line": {"dash": "dash", "color": LINE},
            }
        ],
    }  # fmt: skip
    return traces, layout


def farthest(cases: Mapping[str, Mapping[str, CalibrationCounts]], name: str) -> list[str]:
    """The cases that count most for the error of a class, at most :data:`~ui.review.figures.MAX_CASES`."""
    unclear = {id: counts[name].unclear for id, counts in cases.items() if name in counts}
    weights = {id: part.total * part.expected_error() for id, part in unclear.items() if part.total}
    return sorted(weights, key=lambda id: -weights[id])[:MAX_CASES]


def _points(counts: CalibrationCounts) -> tuple[list[float], list[float], list[str]]:
    """Mean probability and share in percent, and number of voxels, of the bins with enough of them."""
    bins = [one for one in counts.bins() if one.voxels >= LEAST_VOXELS]
    return (
        [100 * one.probability for one in bins],
        [100 * one.share for one in bins],
        [f"{one.voxels:,}" for one in bins],
    )
