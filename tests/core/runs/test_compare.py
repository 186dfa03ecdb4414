"""Comparison of runs: differing fields, measured values, and CSV that spreadsheets open."""

from __future__ import annotations

import csv
import io
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import runs
from core.errors import RunError
from core.presets import preset
from core.runs.compare import MAX_POINTS
from core.runs.launch import create_run
from core.runs.store import metrics_file
from core.runs.store.state import Best, read_state, write_state
from core.runs.thinning import thinned


def trained(root: Path, name: str, best: Best | None = None, **values: Any) -> Path:
    folder = create_run(root, preset("quick").with_values({"path": "demo", **values}), name)
    for epoch, (loss, dice) in enumerate([(1.5, 0.5), (0.9, 0.75), (0.6, 0.7)], start=1):
        metrics_file.append_metrics(folder, epoch, 10 * epoch, 2.5 * epoch, {"train/loss": loss, "lr": 0.02})
        metrics_file.append_metrics(folder, epoch, 10 * epoch, 2.6 * epoch, {"whole/dice_mean": dice})
    write_state(folder, replace(read_state(folder), state="stopped", epoch=3, step=30, elapsed_s=7.8, best=best))
    return folder


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_comparison_holds_differing_fields_and_measured_values(tmp_path: Path) -> None:
    one = trained(tmp_path, "one", Best(2, 0.75, "held-out whole volumes"))
    two = trained(tmp_path, "two", learning_rate=0.5, channels=(4, 8))
    found = runs.compare(tmp_path, ["one", two.name])
    assert [r.id for r in found.runs] == [one.name, two.name]
    assert found.differences == {"channels": ("8,16,32", "4,8"), "learning_rate": ("0.02", "0.5")}
    assert found.measured["whole/dice_mean"] == (0.75, 0.7), "at the best epoch; without one, the last"
    assert found.measured["train/loss"] == (0.6, 0.6) and found.measured["lr"] == (0.02, 0.02)
    assert [row.value for row in found.curves["whole/dice_mean"][0]] == [0.5, 0.75, 0.7]


def test_metric_without_a_finite_value_is_none(tmp_path: Path) -> None:
    one, two = trained(tmp_path, "one"), trained(tmp_path, "two")
    metrics_file.append_metrics(two, 3, 30, 9.0, {"val/loss": math.nan, "val/dice_mean": 0.5})
    found = runs.compare(tmp_path, [one.name, two.name])
    assert found.measured["val/dice_mean"] == (None, 0.5) and found.measured["val/loss"] == (None, None)
    (line, other) = rows_of(found.table_csv())
    assert (line["val/dice_mean"], other["val/dice_mean"]) == ("", "0.5")


def test_csv_escapes_formulas_and_holds_every_value(tmp_path: Path) -> None:
    one, two = trained(tmp_path, "=1+1"), trained(tmp_path, "two, with comma", learning_rate=0.5)
    first, second = rows_of(runs.compare(tmp_path, [one.name, two.name]).table_csv())
    assert first["name"] == "'=1+1" and second["name"] == "two, with comma"
    assert (first["learning_rate"], second["learning_rate"]) == ("0.02", "0.5")
    assert (first["epoch"], first["step"], first["elapsed_s"], first["train/loss"]) == ("3", "30", "7.8", "0.6")
    every = rows_of(runs.curves_csv(tmp_path, [one.name, two.name]))
    assert len(every) == 2 * 9 and {row["run"] for row in every} == {one.name, two.name}
    expected = {"run": one.name, "epoch": "1", "step": "10", "elapsed_s": "2.5", "metric": "train/loss", "value": "1.5"}
    assert every[0] == expected


def test_comparison_of_fewer_than_two_runs_is_refused(tmp_path: Path) -> None:
    one = trained(tmp_path, "one")
    for names in ([], [one.name], [one.name, "one"]):
        with pytest.raises(RunError, match="two or more"):
            runs.compare(tmp_path, names)
    with pytest.raises(RunError, match="got 'nobody'"):
        runs.compare(tmp_path, ["one", "nobody"])


def test_thinned_curve_keeps_spikes_and_ends(tmp_path: Path) -> None:
    chance = random.Random(0)
    values = [chance.random() for _ in range(100_000)]
    values[31_415], values[77_777] = 50.0, -50.0
    points = list(enumerate(values))
    kept = thinned(points, MAX_POINTS, lambda p: p[1])
    assert len(kept) <= MAX_POINTS and kept == sorted(kept)
    assert kept[0] == points[0] and kept[-1] == points[-1]
    assert (31_415, 50.0) in kept and (77_777, -50.0) in kept
    assert thinned(points[:999], 1000, lambda p: p[1]) == points[:999]
    holes = thinned([(n, math.nan) for n in range(5000)], 100, lambda p: p[1])
    assert 0 < len(holes) <= 100
    with pytest.raises(ValueError, match="at least 4"):
        thinned(points, 3, lambda p: p[1])
