"""Comparison of runs: differing configuration fields, measured values, curves; as JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config import field_specs
from core.csv_text import csv_table
from core.errors import RunError
from core.runs.catalog import RunSummary, find_run
from core.runs.store import metrics_file
from core.runs.store.metrics_file import MetricRow
from core.runs.thinning import thinned

MAX_POINTS = 1000  # per curve
PROGRESS = ("epoch", "step", "elapsed_s")


@dataclass(frozen=True)
class Comparison:
    """Comparison of two or more runs.

    Attributes
    ----------
    runs : tuple of RunSummary. The runs, in the order given.
    differences : dict. By configuration field that differs between runs: its value in each run, as text.
    measured : dict. By metric: its value in each run, at the epoch of the best checkpoint if it was measured then, else
        the last one; ``None`` for a run without it. Training loss, learning rate and speed are the last ones.
    curves : dict. By metric: the points of each run, at most ``MAX_POINTS`` each.
    """

    runs: tuple[RunSummary, ...]
    differences: dict[str, tuple[str, ...]]
    measured: dict[str, tuple[float | None, ...]]
    curves: dict[str, tuple[list[MetricRow], ...]]

    def to_json(self) -> dict[str, Any]:
        """Everything but the curves, as plain JSON values."""
        return {
            "runs": [{"id": r.id, "name": r.name, "state": r.state.state} for r in self.runs],
            "differences": {name: list(values) for name, values in self.differences.items()},
            "measured": {name: list(values) for name, values in self.measured.items()},
        }

    def table_csv(self) -> str:
        """CSV with a line per run: id, name, state, progress, differing fields, measured values."""
        rows = []
        for n, run in enumerate(self.runs):
            progress = [getattr(run.state, name) for name in PROGRESS]
            values = [column[n] for column in self.measured.values()]
            settings = [column[n] for column in self.differences.values()]
            rows.append((run.id, run.name, run.state.state, *progress, *settings, *values))
        return csv_table(["run", "name", "state", *PROGRESS, *self.differences, *self.measured], rows)


def compare(root: Path, names: Sequence[str]) -> Comparison:
    """Compare runs.

    Parameters
    ----------
    root : Path. Checkpoints root.
    names : sequence of str. Two or more ids, unambiguous id prefixes, or names.

    Raises
    ------
    RunError
        If there are fewer than two, one does not exist, or two of them are the same run.
    """
    runs = tuple(find_run(root, name) for name in names)
    if len({run.id for run in runs}) < max(len(runs), 2):
        raise RunError(f"compare: expected two or more different runs, got {', '.join(r.id for r in runs) or 'none'}")
    values = [run.config.values() for run in runs]
    specs = {spec.name: spec for spec in field_specs()}
    differences = {
        name: tuple(specs[name].format(v[name]) for v in values)
        for name in values[0]
        if any(v[name] != values[0][name] for v in values)
    }
    rows = [list(metrics_file.read_metrics(run.folder)) for run in runs]
    measured: dict[str, tuple[float | None, ...]] = {}
    curves: dict[str, tuple[list[MetricRow], ...]] = {}
    for metric in dict.fromkeys(row.name for run_rows in rows for row in run_rows):
        series = [[row for row in run_rows if row.name == metric] for run_rows in rows]
        measured[metric] = tuple(_measured(run, points) for run, points in zip(runs, series, strict=True))
        curves[metric] = tuple(thinned(points, MAX_POINTS, lambda row: row.value) for points in series)
    return Comparison(runs, differences, measured, curves)


def distinct_names(runs: Sequence[RunSummary]) -> list[str]:
    """The names of runs; those that several have are followed by the end of the run id."""
    names = [run.name for run in runs]
    return [n if names.count(n) == 1 else f"{n} ({r.id[-4:]})" for n, r in zip(names, runs, strict=True)]


def curves_csv(root: Path, names: Sequence[str]) -> str:
    """CSV with a line per measured value: run, epoch, step, elapsed_s, metric, value.

    Raises
    ------
    RunError
        If a run does not exist.
    """
    found = [find_run(root, name) for name in names]
    return metrics_csv((run.id, metrics_file.read_metrics(run.folder)) for run in found)


def metrics_csv(values: Iterable[tuple[str, Iterable[MetricRow]]]) -> str:
    """The values of runs as CSV, as :func:`curves_csv` writes it.

    Parameters
    ----------
    values : iterable of (str, iterable of MetricRow). Id and values of each run.
    """
    rows = ((run_id, row.epoch, row.step, row.elapsed_s, row.name, row.value) for run_id, run in values for row in run)
    return csv_table(["run", *PROGRESS, "metric", "value"], rows)


def _measured(run: RunSummary, points: Sequence[MetricRow]) -> float | None:
    """The value of a metric shown for a run."""
    if not points:
        return None
    best = run.state.best
    at_best = [row for row in points if best is not None and best.is_at(row.epoch, row.step) and "/" in row.name]
    chosen = (at_best or points)[-1]
    if chosen.name == "train/loss":
        chosen = points[-1]
    return None if math.isnan(chosen.value) else chosen.value
