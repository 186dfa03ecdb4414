"""Results of a run: Dice per class is from the measurement that selected the best epoch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from core import runs
from core.runs.store.index import open_index
from core.runs.store.metrics_file import MetricRow
from core.runs.store.state import Best
from tests.support.run_folders import dice, make_run
from ui.runs.results import best_dice


def test_dice_per_class_is_of_the_best_epoch(checkpoints: Path) -> None:
    run = runs.get_run(checkpoints, make_run(checkpoints, "net", epochs=3))
    assert best_dice(checkpoints, run) == dict.fromkeys(("CSF", "GM", "WM"), dice(3))


def test_whole_volume_dice_is_shown_only_if_it_selected_the_best_epoch(checkpoints: Path) -> None:
    run = runs.get_run(checkpoints, make_run(checkpoints, "net", epochs=3))
    rows = [MetricRow(0, 3, 60, 12.0, f"whole/{n}", v) for n, v in (("dice_mean", 0.5), ("dice/CSF", 0.5))]
    open_index(checkpoints).add_metrics(run.id, rows)
    assert best_dice(checkpoints, run)["CSF"] == dice(3)
    state = dataclasses.replace(run.state, best=Best(3, 0.5, "held-out, whole volume, n = 2"))
    assert best_dice(checkpoints, dataclasses.replace(run, state=state)) == {"CSF": 0.5}


def test_run_without_measurements_has_no_dice(checkpoints: Path) -> None:
    run = runs.get_run(checkpoints, make_run(checkpoints, "net", "failed", epochs=0))
    assert best_dice(checkpoints, run) == {}
