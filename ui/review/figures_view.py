"""Figures over the cases of a model on the Review page; a click on a point of a case opens that case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from core.evaluation.agreement import agreement, volumes_of
from core.evaluation.case_analysis import CaseAnalysis, pool
from core.evaluation.metrics import SubjectScore
from core.formatting import format_list, format_number
from core.runs.kept_analyses import KeptAnalyses, read_analyses
from ui.review import analysis_job, figures
from ui.review.view import CaseList
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.progress import progress
from ui.shared.state import load_from_url, save_to_url

CLASS, UNIT, PAIRS = "review_figures_class", "review_figures_unit", "review_figures_pairs"  # session keys
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
MAX_PAIRS = 12

DESCRIPTIONS = {  # for screen readers
    "agreement": "Bland-Altman plot: difference of the volumes over their mean, a point per case",
    "confusion": "Confusion between classes: reference in rows, prediction in columns",
    "surface": "Histogram of the surface distances in both directions, with the largest one of each case",
    "border": "Share of wrong voxels by their distance to a class border",
    "models": "Values of the first model and of the second one, a point per case",
}

OpenCase = Callable[[str], None]


def show_figures(cases: CaseList, classes: Sequence[Mapping[str, str]], open_case: OpenCase) -> None:
    """Render the figures, or what is needed for them.

    Parameters
    ----------
    cases : CaseList. The cases of the list.
    classes : sequence of mapping. ``{"name", "colour"}`` of each class.
    open_case : callable. Opens a case by its id, before the page runs again.
    """
    kept = {id: cases.predictions[id] for id in cases.subjects if id in cases.predictions}
    outdated = [id for id, prediction in kept.items() if prediction.score is not None and prediction.stale]
    scores = {id: p.score for id, p in kept.items() if p.score is not None and not p.stale}
    if not scores:
        reason = "have no reference to compare with" if kept else "are not segmented yet: segment them first"
        reason = "have outdated segmentations: segment them again" if outdated else reason
        st.info(f"The cases of the list {reason}.", icon=":material/info:")
        return
    st.caption(
        f"Whole volumes, {formatting.count(len(scores), 'scored case')} of {len(cases.subjects)} in the list. "
        "A click on a point opens its case."
    )
    if outdated:
        st.caption(f"Left out, outdated: {formatting.plain(format_list(outdated))}.")
    names = [c["name"] for c in classes]
    key = f"{CLASS}-{'-'.join(names)}"
    load_from_url(key, names[0], names, "class")
    with st.container(horizontal=True):
        name = st.selectbox("Class", names, key=key, width=220)
    save_to_url(key, name, "class", names[0])
    colours = {c["name"]: c["colour"] for c in classes}
    _show_agreement(scores, name, colours[name], open_case)
    found = read_analyses(kept)
    if not _ready(cases, found):
        return
    pooled = pool(found.analyses.values())
    if pooled is None:
        return
    partial = f" Of {len(found.analyses)} of {len(scores)} cases." if len(found.analyses) < len(scores) else ""
    _show_confusion(found.analyses, pooled, partial, open_case)
    st.subheader(f"Surface distances, {formatting.plain(name)}", anchor=False)
    if name in pooled.surface:
        beyond = figures.beyond_surface_figure(pooled, name)
        st.caption(f"From each voxel of one surface to the other one, pooled over the cases.{partial} {beyond}")
        show_chart(figures.surface_figure(found.analyses, pooled, name), "surface", open_case)
    else:
        st.caption("No case has this class in both the reference and the prediction.")
    st.subheader("Errors by distance to a class border", anchor=False)
    lines = figures.most_wrong(found.analyses, name)
    thin = "the cases" if len(lines) == len(found.analyses) else f"the {len(lines)} cases with the most wrong voxels"
    beyond = figures.beyond_border_figure(pooled)
    st.caption(
        f"Thick: all cases, each class of the reference. Thin: {thin}, {formatting.plain(name)}.{partial} {beyond}"
    )
    show_chart(figures.border_figure(found.analyses, pooled, name, colours), "border", open_case)


def _show_agreement(scores: Mapping[str, SubjectScore], name: str, colour: str, open_case: OpenCase) -> None:
    st.subheader(f"Volumes, {formatting.plain(name)}", anchor=False)
    volumes = volumes_of(scores, name)
    if not volumes:
        st.caption("No case has this class.")
        return
    truth, prediction = ([pair[n] for pair in volumes.values()] for n in (0, 1))
    limits = agreement(truth, prediction)
    text = f"Bland-Altman, n = {limits.n}: bias {format_number(limits.bias, 2)} ml"
    if limits.n > 1:
        text += f", limits of agreement {format_number(limits.lower, 2)} to {format_number(limits.upper, 2)} ml"
        text += " (bias ± 1.96 standard deviations)."
    else:
        text += "; limits of agreement need two cases."
    st.caption(text)
    show_chart(figures.agreement_figure(volumes, limits, colour), "agreement", open_case)


def _ready(cases: CaseList, found: KeptAnalyses) -> bool:
    """Whether there are figures of voxels, also partial ones; renders how the others are made, and what went wrong."""
    job = analysis_job.observe(cases.checkpoint, cases.folder, cases.predictions)
    if job.state == "running":
        progress("Counting voxels", lambda: analysis_job.observe(cases.checkpoint, cases.folder, cases.predictions))
        return False
    if job.state == "failed":
        error_box(job.message, context="The voxels could not be counted")
    for id, reason in found.failures.items():
        error_box(reason, context=f"{formatting.plain(id)} is left out")
    wanted = [*found.missing, *found.failures]
    if wanted:
        with st.container(horizontal=True, vertical_alignment="center"):
            label = f"Count the voxels of {formatting.count(len(wanted), 'case')}"
            if st.button(label, icon=":material/play_arrow:", type="primary" if found.missing else "secondary"):
                analysis_job.start(cases.checkpoint, cases.folder)
                st.rerun()
            st.caption("for confusion, surface distances and errors near borders", width="content")
    return bool(found.analyses)


def _show_confusion(
    analyses: Mapping[str, CaseAnalysis], pooled: CaseAnalysis, partial: str, open_case: OpenCase
) -> None:
    st.subheader("Confusion between classes", anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Voxels of whole volumes; a row is a class of the reference.{partial}", width="stretch")
        unit = st.segmented_control(
            "Unit", list(figures.UNITS), default="%", required=True, key=UNIT, label_visibility="collapsed"
        )
    show_chart(figures.confusion_figure(pooled, unit or "%"), "confusion", None)
    pairs = [
        (t, p)
        for t in range(len(pooled.classes))
        for p in range(len(pooled.classes))
        if t != p and pooled.confusion[t, p]
    ]
    pairs = sorted(pairs, key=lambda pair: -pooled.confusion_ml[pair])[:MAX_PAIRS]
    if not pairs:
        st.caption("No voxel is wrong.")
        return
    rows, worst = [], []
    for t, p in pairs:
        id, volume = figures.case_with_most(analyses, t, p)
        worst.append(id)
        rows.append(
            {
                "Reference": pooled.classes[t],
                "taken for": pooled.classes[p],
                "ml": float(pooled.confusion_ml[t, p]),
                "% of the class": float(pooled.confusion_percent[t, p]),
                "most in": id,
                "there (ml)": volume,
            }
        )

    def selected() -> None:
        chosen = st.session_state[PAIRS].selection.rows
        if chosen:
            open_case(worst[chosen[0]])

    st.caption("The largest confusions; a click on the left of a row opens the case with most of it.")
    st.dataframe(
        rows,
        key=PAIRS,
        hide_index=True,
        on_select=selected,
        selection_mode="single-row",
        column_config={c: st.column_config.NumberColumn(format="%.3g") for c in ("ml", "% of the class", "there (ml)")},
    )


def show_chart(figure: tuple[figures.Traces, figures.Layout], name: str, open_case: OpenCase | None) -> None:
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
    if open_case is None:
        st.plotly_chart(Figure(traces, layout), key=key, config=CONFIG, alt=DESCRIPTIONS[name])
    else:
        st.plotly_chart(
            Figure(traces, layout),
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
