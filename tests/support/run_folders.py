"""Run folders as a trainer leaves them, written with the functions of core.runs."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from core.presets import preset
from core.runs.catalog import update_index
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store import metrics_file
from core.runs.store.index import open_index
from core.runs.store.state import Best, read_state, write_state

CLASSES = ("background", "CSF", "GM", "WM")


def make_run(root: Path, name: str, state: Any = "finished", epochs: int = 3, message: str = "", **values: Any) -> str:
    """A run with metrics of ``epochs`` epochs; returns its id."""
    root.mkdir(parents=True, exist_ok=True)
    folder = create_run(root, preset("quick").with_values({"path": "demo", **values}), name)
    add_metrics(root, folder.name, 1, epochs)
    best = Best(epochs, dice(epochs), "held-out sub-volumes, n = 8") if epochs else None
    now = time.time()
    write_state(
        folder,
        dataclasses.replace(
            read_state(folder),
            state=state,
            message=message,
            epoch=epochs,
            epochs=10,
            step=epochs * 20,
            best=best,
            elapsed_s=epochs * 4.0,
            started_at=now,
            ended_at=now,
            classes=CLASSES,
        ),
    )
    files.append_log(folder, f"this is the log of {name}")
    update_index(root, folder)
    return folder.name


def dice(epoch: int) -> float:
    return 1 - 0.5**epoch


def add_metrics(root: Path, run_id: str, first: int, last: int) -> None:
    """Metrics of the epochs ``first`` to ``last``, in the run folder and in the index."""
    rows = []
    for epoch in range(first, last + 1):
        values = {"train/loss": 1 / epoch, "val/loss": 1.1 / epoch, "val/dice_mean": dice(epoch)}
        values |= {f"val/dice/{name}": dice(epoch) for name in CLASSES[1:]}
        metrics_file.append_metrics(root / run_id, epoch, epoch * 20, epoch * 4.0, values)
        rows += [metrics_file.MetricRow(0, epoch, epoch * 20, epoch * 4.0, n, v) for n, v in values.items()]
    open_index(root).add_metrics(run_id, rows, size=metrics_file.metrics_size(root / run_id))
