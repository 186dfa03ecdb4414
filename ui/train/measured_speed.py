"""How fast the last runs trained, beside what was estimated for them: corrects the estimate for the next run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from core import runs
from core.errors import UserError
from core.runs import RunSummary
from core.training.plan import FORECAST_FACT
from ui.shared.paths import runs_root

MAX_RUNS = 3  # the newest that tell it
SPREAD = 1.4  # how far a duration may lie from those of the last runs


def duration_factors(device: str) -> tuple[tuple[float, float], int]:
    """Shortest and longest duration as multiples of the estimated one, from the newest runs on a kind of device.

    A run that trains now counts from its first report on.

    Parameters
    ----------
    device : str. "cpu" or "cuda".

    Returns
    -------
    tuple of float, int. The multiples, and the number of runs that they come from: 0 if no run tells it.
    """
    ratios: list[float] = []
    for run in runs.list_runs(runs_root()):
        if device == _device(run) and (ratio := _ratio(run)):
            ratios.append(ratio)
        if len(ratios) == MAX_RUNS:
            break
    return ((min(ratios) / SPREAD, max(ratios) * SPREAD) if ratios else (1.0, 1.0)), len(ratios)


def _device(run: RunSummary) -> str:
    return "cpu" if run.state.facts.get("device", "").startswith("cpu") else "cuda"


def _ratio(run: RunSummary) -> float:
    """Measured duration of a sub-volume as a multiple of the estimated one; 0 if the run does not tell it."""
    try:
        estimated = float(run.state.facts.get(FORECAST_FACT, "").split(" ")[0])
        speed = run.state.sub_volumes_per_s or _median_speed(str(runs_root()), run.id, run.state.updated_at)
    except (ValueError, UserError):
        return 0.0
    return estimated / speed if speed else 0.0


@st.cache_data(max_entries=100, show_spinner=False)
def _median_speed(root: str, run_id: str, updated_at: float) -> float:
    """Median of the speeds that a run reported; 0 without any."""
    speeds = [row.value for row in runs.metrics_after(Path(root), run_id) if row.name == "speed"]
    return float(np.nanmedian(speeds)) if speeds else 0.0
