"""Figures over the cases of a model on the Review page; a click on a point of a case opens that case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from core.evaluation.agreement import agreement, volumes_of
from core.evaluation.case_analysis import CaseAnalysis, pool
from core.evaluation.metrics import SubjectScore
from core.formatting import format_list, format_number
from core.runs.kept_analyses import read_analyses
from core.runs.predictions import Prediction
from ui.review import counting, figures
from ui.review.calibration_view import show_calibration
from ui.review.charts import OpenCase, show_chart
from ui.review.view import CaseList
from ui.shared import formatting
from ui.shared.state import load_from_url, save_to_url
from ui.shared.theme import ink_and_paper

CLASS, UNIT, PAIRS = "review_figures_class", "review_figures_unit", "review_figures_pairs"  # session keys
MAX_PAIRS = 12


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
    _show_voxels(cases, kept, name, colours, open_case)
    show_calibration(cases, kept, name, colours, open_case)


def _show_voxels(
    cases: CaseList, kept: Mapping[str, Prediction], name: str, colours: Mapping[str, str], open_case: OpenCase
) -> None:
    """The figures for which voxels are counted, also partial ones, or how they are made."""
    found = read_analyses(kept)
    if not counting.ready(counting.VOXELS, cases, found):
        return
    pooled = pool(found.cases.values())
    if pooled is None:
        return
    partial = counting.partial(found)
    _show_confusion(found.cases, pooled, partial, open_case)
    st.subheader(f"Surface distances, {formatting.plain(name)}", anchor=False)
    if name in pooled.surface:
        beyond = figures.beyond_surface_figure(pooled, name)
        st.caption(f"From each voxel of one surface to the other one, pooled over the cases.{partial} {beyond}")
        show_chart(figures.surface_figure(found.cases, pooled, name), "surface", open_case)
    else:
        st.caption("No case has this class in both the reference and the prediction.")
    st.subheader("Errors by distance to a class border", anchor=False)
    lines = figures.most_wrong(found.cases, name)
    thin = "the cases" if len(lines) == len(found.cases) else f"the {len(lines)} cases with the most wrong voxels"
    beyond = figures.beyond_border_figure(pooled)
    st.caption(
        f"Thick: all cases, each class of the reference. Thin: {thin}, {formatting.plain(name)}.{partial} {beyond}"
    )
    show_chart(figures.border_figure(found.cases, pooled, name, colours), "border", open_case)


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


def _show_confusion(
    analyses: Mapping[str, CaseAnalysis], pooled: CaseAnalysis, partial: str, open_case: OpenCase
) -> None:
    st.subheader("Confusion between classes", anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Voxels of whole volumes; a row is a class of the reference.{partial}", width="stretch")
        unit = st.segmented_control(
            "Unit", list(figures.UNITS), default="%", required=True, key=UNIT, label_visibility="collapsed"
        )
    show_chart(figures.confusion_figure(pooled, unit or "%", ink_and_paper()[0]), "confusion", None)
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
