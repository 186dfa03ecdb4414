"""The list of cases of a review: one row each with its Dice as a number and as a bar per class; a click chooses one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.evaluation.metrics import SubjectScore
from core.formatting import format_score
from ui.shared.component import component

_mount = component("cases", Path(__file__).parent, ("cases.js",), ("cases.css",))


def case_list(
    subjects: Sequence[str], scores: Mapping[str, SubjectScore | None], classes: Sequence[Mapping[str, str]],
    chosen: str | None, key: str = "cases",
) -> str | None:  # fmt: skip
    """Draw the list in the order given.

    Parameters
    ----------
    scores : by subject; ``None`` for one that was segmented and has no truth; a subject that is not segmented has none.
    classes : ``{"name", "colour"}`` of each class.

    Returns
    -------
    The subject that was chosen just now, else ``None``.
    """
    rows = [_row(subject, scores, classes) for subject in subjects]
    result = _mount(key=key, data={"rows": rows, "selected": chosen}, on_chosen_change=lambda: None)
    return result.chosen


def _row(
    subject: str, scores: Mapping[str, SubjectScore | None], classes: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    score = scores.get(subject)
    bars, told = [], "not segmented yet"
    if score is not None:
        values = [(c, score.dice.get(c["name"], math.nan)) for c in classes]
        bars = [{"colour": c["colour"], "share": 0.0 if math.isnan(v) else v} for c, v in values]
        told = ", ".join(f"{c['name']} {format_score(v)}" for c, v in values)
    elif subject in scores:
        told = "segmented; there is no truth to score it with"
    missed = score.missed if score is not None else ()
    return {
        "id": subject,
        "dice": format_score(score.mean_dice if score is not None else None),
        "bars": bars,
        "title": told + (f"; missed: {', '.join(missed)}" if missed else ""),
        "missed": bool(missed),
        "waiting": subject not in scores,
    }
