"""Calibration on the Review page: whether the probabilities of a model are right, and what is needed to know it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import streamlit as st

from core.evaluation.calibration import CalibrationCounts, pool_calibration
from core.formatting import format_number
from core.runs.kept_calibration import read_calibration
from core.runs.predictions import Prediction
from ui.review import counting
from ui.review.calibration_figure import calibration_figure, farthest
from ui.review.charts import OpenCase, show_chart
from ui.review.view import CaseList
from ui.shared import formatting

REGION = "review_calibration_region"  # session key
LEAST_BIAS = 0.0005  # a smaller one is none


def show_calibration(
    cases: CaseList, kept: Mapping[str, Prediction], name: str, colours: Mapping[str, str], open_case: OpenCase
) -> None:
    """Render the reliability diagram of a class, also a partial one, or how the probabilities are computed.

    Parameters
    ----------
    cases : CaseList. The cases of the list.
    kept : mapping. Kept predictions of these.
    name : str. The class; a network that is trained on regions has probabilities of regions, one of which is chosen.
    colours : mapping. Colour by class.
    open_case : callable. Opens a case by its id, before the page runs again.
    """
    st.subheader("Calibration", anchor=False)
    found = read_calibration(kept)
    if not counting.ready(counting.PROBABILITIES, cases, found):
        return
    pooled = pool_calibration(found.cases.values())
    if name not in pooled:
        name = st.selectbox("Region", list(pooled), key=REGION, width=220) or next(iter(pooled))
    lines = farthest(found.cases, name)
    thin = "each case" if len(lines) >= len(found.cases) else f"the {len(lines)} cases that count most for the error"
    st.caption(
        "Of the voxels to which the model gives a probability, how many have the class in the reference: on the dashed "
        "line probabilities are right, below it the model gives too much, above it too little. Thick: all cases; thin: "
        f"{thin}, {formatting.plain(name)}."
        f"{counting.partial(found)}"
    )
    show_chart(calibration_figure(found.cases, pooled, name, colours), "calibration", open_case)
    st.caption(in_words(pooled[name], name))


def in_words(counts: CalibrationCounts, name: str) -> str:
    """The errors of the probabilities of a class as sentences.

    Parameters
    ----------
    counts : CalibrationCounts. Of all cases.
    name : str. The class.
    """
    unclear, shown = counts.unclear, formatting.plain(name)
    if not unclear.total:
        return f"No voxel has a probability of {shown} from 1 to 99 %."
    bias = unclear.bias
    points = f"{format_number(100 * abs(bias), 1)} percentage points too {'high' if bias > 0 else 'low'}"
    way = "right" if abs(bias) < LEAST_BIAS else points
    all_voxels = counts.expected_error()
    return (
        f"Unclear voxels, with a probability of {shown} from 1 to 99 %: expected calibration error "
        f"{_percent(unclear.expected_error())}, the mean probability is {way} (n = {unclear.total:,} voxels). All "
        f"voxels of the volumes, most of which are clear: {_percent(all_voxels, 2)}. Postprocessing changes no "
        "probability."
    )


def _percent(share: float, decimals: int = 1) -> str:
    return "–" if math.isnan(share) else f"{format_number(100 * share, decimals)} %"
