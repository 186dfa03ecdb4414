"""The list of cases on the Review page: mean Dice and a bar per class for each case; a click chooses a case."""

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
    subjects: Sequence[str],
    scores: Mapping[str, SubjectScore | None],
    classes: Sequence[Mapping[str, str]],
    chosen: str | None,
    key: str = "cases",
) -> str | None:
    """Render the list in the given order.

    Parameters
    ----------
    subjects : sequence of str. Ids of the cases.
    scores : mapping. Scores of segmented cases; ``None`` for a case without truth.
    classes : sequence of mapping. ``{"name", "colour"}`` of each class.
    chosen : str or None. The case that is marked.

    Returns
    -------
    str or None. The case that was chosen by a click, else ``None``.
    """
    rows = [_row(subject, scores, classes) for subject in subjects]
    result = _mount(key=key, data={"rows": rows, "selected": chosen}, on_chosen_change=lambda: None)
    return result.chosen


def _row(
    subject: str, scores: Mapping[str, SubjectScore | None], classes: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    score = scores.get(subject)
    bars, title, missed = [], "not segmented yet", []
    if score is not None:
        dice = [(c, score.dice.get(c["name"], math.nan)) for c in classes]
        bars = [{"colour": c["colour"], "share": 0.0 if math.isnan(d) else d} for c, d in dice]
        title = ", ".join(f"{c['name']} {format_score(d)}" for c, d in dice)
        missed = list(score.missed)
    elif subject in scores:
        title = "segmented; no reference, no scores"
    return {
        "id": subject,
        "dice": format_score(score.mean_dice if score is not None else None),
        "bars": bars,
        "title": title + (f"; missed: {', '.join(missed)}" if missed else ""),
        "missed": bool(missed),
        "waiting": subject not in scores,
    }
