"""Ratio of measured to estimated durations of the last runs, which corrects the estimate for the next run."""

from __future__ import annotations

import functools
import math
import re
import statistics
from pathlib import Path

from core.choices import DEVICES
from core.errors import UserError
from core.events import FORECAST_FACT
from core.hosts import host_name
from core.runs.catalog import RunSummary, list_runs
from core.runs.measurements import metrics_after
from core.runs.store.engine_records import LOCAL
from core.training_place import DurationFactors

MAX_RUNS = 3  # the newest runs with a measured speed
SPREAD = 1.4  # factor by which a duration may differ from those of the last runs


def duration_factors(root: Path, device: str, engine: str = LOCAL) -> DurationFactors:
    """Shortest and longest duration as multiples of the estimated one, from the newest runs on a kind of device of this
    machine, or of another engine.

    A run that trains now counts from its first report on.

    Parameters
    ----------
    root : Path. Checkpoints root.
    device : str. Kind of device, as torch names it.
    engine : str. Name of the engine.
    """
    ratios: list[float] = []
    for run in list_runs(root):
        if _is_of(run, engine) and device == _device(run) and (ratio := _ratio(root, run)):
            ratios.append(ratio)
        if len(ratios) == MAX_RUNS:
            break
    return DurationFactors(min(ratios) / SPREAD, max(ratios) * SPREAD, len(ratios)) if ratios else DurationFactors()


def last_device(root: Path, engine: str) -> str:
    """The kind of device of the newest run that has trained on an engine; empty if none has."""
    trained = (run for run in list_runs(root) if _is_of(run, engine) and run.state.facts.get("device"))
    return next(map(_device, trained), "")


def _is_of(run: RunSummary, engine: str) -> bool:
    """Whether an engine, or this machine, trained a run: devices elsewhere have another speed."""
    if run.engine is None:
        return engine == LOCAL and run.state.host in ("", host_name())
    return run.engine.engine == engine


def _device(run: RunSummary) -> str:
    """The kind of device of a run: its name begins with it, after the number of processes where there are several; a
    CUDA device has the name of the GPU."""
    name = re.sub(r"^\d+ x ", "", run.state.facts.get("device", ""))
    return next((kind for kind in DEVICES if name.startswith(kind)), "cuda")


def _ratio(root: Path, run: RunSummary) -> float:
    """Measured duration of a sub-volume as a multiple of the estimated one; 0 if it is not known."""
    try:
        estimated = float(run.state.facts.get(FORECAST_FACT, "").split(" ")[0])
        speed = run.state.sub_volumes_per_s or _median_speed(root, run.id, run.state.updated_at)
    except (ValueError, UserError):
        return 0.0
    return estimated / speed if speed else 0.0


@functools.lru_cache(maxsize=100)
def _median_speed(root: Path, run_id: str, updated_at: float) -> float:
    """Median of the speeds that a run reported; 0 without any."""
    speeds = [row.value for row in metrics_after(root, run_id) if row.name == "speed" and math.isfinite(row.value)]
    return statistics.median(speeds) if speeds else 0.0
