"""The list of cases on the Review page: a score and a bar per class for each case; a click chooses a case. Above it the
scores of all cases as a strip plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.evaluation.case_measures import Distribution, Measure
from core.evaluation.metrics import SubjectScore
from core.formatting import format_number, format_score
from ui.shared.component import component

_mount = component(
    "cases", Path(__file__).parent, ("../../shared/roving_focus.js", "strip_plot.js", "cases.js"), ("cases.css",)
)


@dataclass(frozen=True)
class Scores:
    """The scores that a list shows.

    Attributes
    ----------
    label : str. The measure and the class in words.
    measure : Measure.
    by_case : mapping. Scores of segmented cases; ``None`` for a case without truth.
    values : mapping. Value of the measure of each case that is scored, of the cases that are not listed too.
    spread : Distribution. Of these values.
    marks : mapping. Mark of the cases that a reviewer has marked.
    """

    label: str
    measure: Measure
    by_case: Mapping[str, SubjectScore | None]
    values: Mapping[str, float]
    spread: Distribution
    marks: Mapping[str, str] = field(default_factory=dict)


def case_list(
    subjects: Sequence[str],
    scores: Scores,
    classes: Sequence[Mapping[str, str]],
    chosen: str | None,
    key: str = "cases",
) -> str | None:
    """Render the list in the given order.

    Parameters
    ----------
    subjects : sequence of str. Ids of the cases.
    scores : Scores. Their scores.
    classes : sequence of mapping. ``{"name", "colour"}`` of each class.
    chosen : str or None. The case that is marked.

    Returns
    -------
    str or None. The case that was chosen by a click, else ``None``.
    """
    rows = [_row(subject, scores, classes) for subject in subjects]
    data = {"rows": rows, "selected": chosen, "plot": _plot(scores, subjects, chosen)}
    return _mount(key=key, data=data, on_chosen_change=lambda: None).chosen


def _row(subject: str, scores: Scores, classes: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    score = scores.by_case.get(subject)
    bars, title, missed = [], "not segmented yet", []
    if score is not None:
        dice = [(c, score.dice.get(c["name"], math.nan)) for c in classes]
        bars = [{"colour": c["colour"], "share": 0.0 if math.isnan(d) else d} for c, d in dice]
        title = "Dice " + ", ".join(f"{c['name']} {format_score(d)}" for c, d in dice)
        missed = list(score.missed)
    elif subject in scores.by_case:
        title = "segmented; no reference, no scores"
    return {
        "id": subject,
        "value": _text(scores, subject),
        "bars": bars,
        "title": title + (f"; missed: {', '.join(missed)}" if missed else ""),
        "missed": bool(missed),
        "outlier": subject in scores.spread.outliers,
        "waiting": subject not in scores.by_case,
        "mark": scores.marks.get(subject, ""),
    }


def _text(scores: Scores, subject: str) -> str:
    """The value of a case as text; a dash where there is none, also where a missed structure has no distance."""
    value = scores.values.get(subject, math.nan)
    sign = "+" if scores.measure.kind == "volume" and 0 < value < math.inf else ""
    return sign + format_number(value, scores.measure.decimals)


def _plot(scores: Scores, subjects: Sequence[str], chosen: str | None) -> dict[str, Any] | None:
    """The strip plot; ``None`` with fewer than two values."""
    finite = {id: value for id, value in scores.values.items() if math.isfinite(value)}
    if len(finite) < 2:
        return None
    spread, decimals, listed = scores.spread, scores.measure.decimals, set(subjects)
    points = [
        {"id": id, "value": value, "text": _text(scores, id), "outlier": id in spread.outliers}
        for id, value in finite.items()
        if id in listed
    ]
    place = ""
    if chosen in finite:
        badness = [scores.measure.badness(v) for v in scores.values.values() if not math.isnan(v)]  # missed ones too
        worse = sum(b > scores.measure.badness(finite[chosen]) for b in badness)
        place = f"{_text(scores, chosen)} is number {worse + 1} of {len(badness)} from the worst; "
    median, *quartiles = (format_number(v, decimals) for v in (spread.median, spread.lower, spread.upper))
    return {
        "label": scores.label,
        "points": points,
        "median": spread.median,
        "quartiles": [spread.lower, spread.upper],
        "low": min(finite.values()),
        "high": max(finite.values()),
        "ends": [format_number(end(finite.values()), decimals) for end in (min, max)],
        "text": f"{place}median {median}, middle half {' to '.join(quartiles)}",
    }
