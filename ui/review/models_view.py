"""The model under review and a second one, a rater or files on the same cases: who is better where, with a paired test;
a click opens a case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from core.checkpointing.metadata import CheckpointMetadata
from core.evaluation.paired_comparison import (
    TEST_IN_WORDS,
    PairedResult,
    comparable,
    compare_scores,
    format_p,
)
from core.formatting import format_list
from ui.review.case_order import Order
from ui.review.charts import OpenCase, show_chart
from ui.review.figures import HEIGHT, LINE, MARGIN, Layout, Traces
from ui.review.second_scores import SecondScores
from ui.review.view import CaseList
from ui.shared import formatting
from ui.shared.class_table import ClassRow, class_table

NAMES = ("the first", "the second")
COLUMNS = ("n", "first", "second", "first better", "second better", "p")


def show_models(
    cases: CaseList, metadata: CheckpointMetadata, second: SecondScores, order: Order, open_case: OpenCase
) -> None:
    """Render the table, a point per case, and what is to be known.

    Parameters
    ----------
    cases : CaseList. The cases of the list, with the predictions of the model under review.
    metadata : CheckpointMetadata. Of the model under review.
    second : SecondScores. What it is compared with.
    order : Order. Measure and class that are compared.
    open_case : callable. Opens a case by its id, before the page runs again.
    """
    first = {id: p.score for id in cases.subjects if (p := cases.predictions.get(id)) and p.score is not None}
    scores = [first, {id: second.scores[id] for id in cases.subjects if id in second.scores}]
    shared = [id for id in scores[0] if id in scores[1]]
    is_model = second.metadata is not None
    noun = "The second model is" if is_model else "Second are"
    st.caption(f"{noun} {formatting.plain(second.name)}. Compared by {order.measure.label}, whole volumes.")
    if not shared:
        st.info(
            f"No case of the list has scores of both yet ({len(scores[0])} of the first, {len(scores[1])} of the "
            f"second): {'segment some with the other one' if is_model else 'segment some'}.",
            icon=":material/info:",
        )
        return
    first_stale = [id for id in shared if cases.predictions[id].stale]
    _warnings("first", metadata, shared, cases.folder, first_stale)
    _warnings("second", second.metadata, shared, cases.folder, [id for id in shared if id in second.stale])
    found = comparable(scores[0], scores[1])
    if found.left_out:
        st.caption(f"Not compared, as only one of them scores it: {formatting.plain(format_list(found.left_out))}.")
    results = compare_scores(found.first, found.second, order.measure)
    colours = {c.name: c.colour for c in metadata.label_space.foreground}
    decimals = order.measure.decimals
    rows = [
        ClassRow(
            r.class_name,
            [
                str(r.n),
                *r.means(decimals),
                str(r.first_better),
                str(r.second_better),
                "–" if math.isnan(r.p) else format_p(r.p),
            ],
            colours.get(r.class_name, ""),
        )
        for r in results
    ]
    class_table(COLUMNS, rows)
    st.markdown("\n".join(f"- {formatting.plain(r.class_name)}: {r.verdict(NAMES)}" for r in results))
    for text in filter(None, (r.left_out(NAMES) for r in results)):
        st.caption(formatting.plain(text))
    missed = " A missed structure is in no mean, and the worst in the test." if any(map(_missed, results)) else ""
    st.caption(f"Means over the cases.{missed} p: {TEST_IN_WORDS}")
    points = {id: (order.value(found.first[id]), order.value(found.second[id])) for id in shared}
    finite = {id: pair for id, pair in points.items() if all(map(math.isfinite, pair))}
    if len(finite) < len(points):
        left_out = format_list([id for id in points if id not in finite])
        st.caption(f"Without a value of both, so not in the figure: {formatting.plain(left_out)}.")
    if finite:
        show_chart(_figure(finite, order, second.kind), "models", open_case)


def _missed(result: PairedResult) -> int:
    return result.first_missed + result.second_missed


def _warnings(
    title: str, metadata: CheckpointMetadata | None, shared: Sequence[str], folder: Path, stale: Sequence[str]
) -> None:
    """What makes the comparison unfair: cases that a model was trained on, and outdated segmentations."""
    seen = metadata.seen_in_training(folder, shared) if metadata is not None else []
    if seen:
        counted = formatting.count(len(seen), "case")
        st.warning(f"The {title} model was trained on {counted} of these; its scores there are too good.")
    if stale:
        st.caption(f"Outdated, of the {title} model: {formatting.plain(format_list(stale))}.")


def _figure(points: Mapping[str, tuple[float, float]], order: Order, second: str) -> tuple[Traces, Layout]:
    """A point per case: the value of the model under review and of the second one, which is called ``second``, with the
    line where both are equal."""
    values = [value for pair in points.values() for value in pair]
    ends = [min(values), max(values)]
    traces: Traces = [
        {
            "type": "scatter", "mode": "lines", "x": ends, "y": ends, "hoverinfo": "skip", "showlegend": False,
            "line": {"color": LINE, "width": 1, "dash": "dash"},
        },
        {
            "type": "scatter", "mode": "markers", "x": [a for a, _ in points.values()],
            "y": [b for _, b in points.values()], "customdata": list(points), "showlegend": False,
            "marker": {"size": 9, "color": "#4a90d9", "line": {"width": 1, "color": LINE}},
            "hovertemplate": "<b>%{customdata}</b>: first %{x:.4g}, second %{y:.4g}<extra></extra>",
        },
    ]  # fmt: skip
    better = "above" if order.measure.higher_is_better else "below"
    layout: Layout = {
        "height": HEIGHT,
        "margin": MARGIN,
        "xaxis": {"title": {"text": f"{order.label}: first model"}, "automargin": True},
        "yaxis": {"title": {"text": f"{second} ({better} the line it is better)"}, "automargin": True},
    }
    return traces, layout
