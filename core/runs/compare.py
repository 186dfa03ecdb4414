"""Runs side by side: what they were told to do differently, and what came out."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config import field_specs
from core.errors import RunError
from core.runs.catalog import RunSummary, find_run
from core.runs.store import folder as files
from core.runs.store.folder import MetricRow
from core.runs.thinning import thinned

MOST_POINTS = 1000  # of a curve
PROGRESS = ("epoch", "step", "elapsed_s")


@dataclass(frozen=True)
class Comparison:
    """Two or more runs.

    Attributes
    ----------
    runs : in the order in which they were named.
    differences : of each configuration field that is not the same in all of them, its value in each, as people write
        it.
    measured : of each metric, the value of each run: at the epoch of its best checkpoint where it was measured there,
        else its last one; ``None`` where a run has none. Training loss, rate and speed are always the last ones.
    curves : of each metric, the points of each run, thinned to at most a thousand.
    """

    runs: tuple[RunSummary, ...]
    differences: dict[str, tuple[str, ...]]
    measured: dict[str, tuple[float | None, ...]]
    curves: dict[str, tuple[list[MetricRow], ...]]

    def to_json(self) -> dict[str, Any]:
        """Everything but the curves, as plain values."""
        return {
            "runs": [{"id": r.id, "name": r.name, "state": r.state.state} for r in self.runs],
            "differences": {name: list(values) for name, values in self.differences.items()},
            "measured": {name: list(values) for name, values in self.measured.items()},
        }

    def table_csv(self) -> str:
        """A line for each run: what it is, where it is, the fields that differ, what was measured."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["run", "name", "state", *PROGRESS, *self.differences, *self.measured])
        for n, run in enumerate(self.runs):
            progress = [getattr(run.state, name) for name in PROGRESS]
            values = ["" if column[n] is None else column[n] for column in self.measured.values()]
            settings = [column[n] for column in self.differences.values()]
            writer.writerow([_cell(v) for v in (run.id, run.name, run.state.state, *progress, *settings, *values)])
        return out.getvalue()


def compare(root: Path, names: Sequence[str]) -> Comparison:
    """Put runs side by side.

    Parameters
    ----------
    names : two or more ids, beginnings of ids, or names.

    Raises
    ------
    RunError
        If there are fewer than two, or one is not there, or the same is named twice.
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
    rows = [list(files.read_metrics(run.folder)) for run in runs]
    metrics = list(dict.fromkeys(row.name for every in rows for row in every))
    by_metric = {m: tuple([row for row in every if row.name == m] for every in rows) for m in metrics}
    return Comparison(
        runs, differences,
        {m: tuple(_measured(run, points) for run, points in zip(runs, by_metric[m], strict=True)) for m in metrics},
        {m: tuple(thinned(points, MOST_POINTS, lambda row: row.value) for points in by_metric[m]) for m in metrics},
    )  # fmt: skip


def curves_csv(root: Path, names: Sequence[str]) -> str:
    """Every measured value of the runs, a line each: run, epoch, step, elapsed_s, metric, value.

    Raises
    ------
    RunError
        If a run is not there.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *PROGRESS, "metric", "value"])
    for name in names:
        run = find_run(root, name)
        for row in files.read_metrics(run.folder):
            value = "" if math.isnan(row.value) else row.value
            writer.writerow([run.id, row.epoch, row.step, row.elapsed_s, row.name, value])
    return out.getvalue()


def _measured(run: RunSummary, points: Sequence[MetricRow]) -> float | None:
    """The value that stands for a run."""
    if not points:
        return None
    best = run.state.best
    at_best = [row for row in points if best is not None and row.epoch == best.epoch and "/" in row.name]
    chosen = (at_best or points)[-1]
    if chosen.name == "train/loss":
        chosen = points[-1]
    return None if math.isnan(chosen.value) else chosen.value


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
