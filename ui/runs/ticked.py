"""The runs that are ticked in the table: part of the URL, each with a colour of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import streamlit as st

from core.colours import RUN_PALETTE, run_colours
from core.runs import RunSummary
from ui.shared.query_params import query_params
from ui.shared.state import COMPARED

MAX_RUNS = len(RUN_PALETTE)
_COLOURS = "colours_of_runs"  # session key: number of the colour of each run


def ticked_runs(known: Collection[str], selected: str | None) -> list[str]:
    """Ids of the ticked runs, the selected one among them where there are others; empty without others.

    Parameters
    ----------
    known : collection of str. Ids of all runs; others in the URL are left out.
    selected : str, optional. Id of the selected run.
    """
    given = dict.fromkeys(id for id in query_params.get(COMPARED, "").split(",") if id in known)
    if selected in known and selected not in given:
        given = {str(selected): None, **given} if given else given
    return list(given)[:MAX_RUNS] if len(given) > 1 else []


def toggle(run_id: str, known: Collection[str], selected: str | None) -> None:
    """Set or remove the tick of a run; with the first one the selected run gets one too.

    Parameters
    ----------
    known, selected : as for :func:`ticked_runs`.
    """
    ticked = ticked_runs(known, selected)
    if run_id in ticked:
        kept = [id for id in ticked if id != run_id]
    else:
        kept = [*(ticked or [id for id in (selected,) if id]), run_id]
    kept = list(dict.fromkeys(kept))
    if len(kept) > 1:
        query_params[COMPARED] = ",".join(kept)
    else:
        query_params.pop(COMPARED, None)


def colours_of(ticked: Sequence[RunSummary]) -> dict[str, str]:
    """The colour ``#rrggbb`` of each ticked run, by id. A run keeps its colour while others come and go."""
    numbers: dict[str, int] = st.session_state.setdefault(_COLOURS, {})
    ids = [run.id for run in ticked]
    for id in [id for id in numbers if id not in ids]:
        del numbers[id]
    for id in ids:
        if id not in numbers:
            numbers[id] = next(n for n in range(MAX_RUNS) if n not in numbers.values())
    palette = run_colours(sorted({colour for run in ticked for colour in run.state.colours}))
    return {id: palette[numbers[id]] for id in ids}
