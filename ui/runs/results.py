"""Results of a run: Dice per class as small bars in the colours of the classes."""

from __future__ import annotations

import html
import math
from pathlib import Path

import streamlit as st

from core import runs
from core.errors import UserError
from core.formatting import format_score
from core.runs import RunSummary
from ui.shared import formatting
from ui.shared.legend import class_colours

NOTHING_MEASURED = (
    "It trains on every subject and holds out none: no Dice is measured. Score it on data it has not seen."
)
MAX_MESSAGE = 160  # characters of a message on a card; the Runs page shows all of it
MAX_ROWS = 400_000
UNKNOWN_COLOUR = "#8b909a"


def best_dice(root: Path, run: RunSummary) -> dict[str, float]:
    """Dice per class at the best epoch, on the whole volumes or sub-volumes whose mean selected it; before there is
    one, at the last validation."""
    best = run.state.score
    if best is None or best.mean_dice is None:
        return {}
    try:
        rows = _metrics(str(root), run.id, run.state.updated_at)
    except UserError:
        return {}
    values = {name: value for epoch, step, name, value in rows if best.is_at(epoch, step)}
    for kind in ("whole/dice", "val/dice"):
        if math.isclose(values.get(f"{kind}_mean", math.nan), best.mean_dice, abs_tol=1e-6):
            return {n.removeprefix(f"{kind}/"): v for n, v in values.items() if n.startswith(f"{kind}/")}
    return {}


def class_dice(root: Path, run: RunSummary) -> None:
    """Show Dice per class as bars; without measurements, the message of the run."""
    values = best_dice(root, run)
    if not values:
        message = run.state.message
        message = message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "…"
        default = (
            NOTHING_MEASURED
            if run.config.split.holds_out_nothing
            else (
                "It ended before the first measurement." if run.state.score is None else "Dice per class is not known."
            )
        )
        st.caption(formatting.plain(message) or default)
        return
    colours = {c["name"]: c["colour"] for c in class_colours(run.state)}
    rows = "".join(_bar(name, value, colours.get(name, UNKNOWN_COLOUR)) for name, value in values.items())
    st.html(
        f'<div style="display:grid;grid-template-columns:auto 1fr auto;gap:3px 10px;align-items:center">{rows}</div>'
    )


def _bar(name: str, value: float, colour: str) -> str:
    share = 0 if not math.isfinite(value) else max(0.0, min(1.0, value)) * 100
    track = "background:color-mix(in srgb, currentColor 12%, transparent);height:6px;border-radius:3px"
    return (
        f'<span>{html.escape(name)}</span><span style="{track}">'
        f'<span style="display:block;height:6px;border-radius:3px;width:{share:.1f}%;background:{html.escape(colour)}">'
        f'</span></span><span style="font-variant-numeric:tabular-nums;text-align:right">{format_score(value)}</span>'
    )


@st.cache_data(max_entries=200, show_spinner=False)
def _metrics(root: str, run_id: str, updated_at: float) -> list[tuple[int, int, str, float]]:
    """(epoch, step, name, value) of all Dice measurements; ``updated_at`` serves only as part of the cache key."""
    rows = runs.metrics_after(Path(root), run_id, 0, MAX_ROWS)
    return [(r.epoch, r.step, r.name, r.value) for r in rows if "/dice" in r.name]
