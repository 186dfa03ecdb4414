"""The process that writes measurements is killed: metrics file and index stay consistent."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from core import runs
from core.config import TrainConfig
from core.processes import PROJECT, module_environment
from core.runs.launch import create_run
from core.runs.store import metrics_file
from core.runs.store.database import FILE
from core.runs.store.index import open_index
from tests.support.watching import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]
NAMES, KILLS = 5, 8

METRICS_WRITER = """
import sys
from pathlib import Path
from core.events import Metrics, Ready
from core.runs.reporting.recorder import Recorder
from core.runs.store.state import read_state
import core.runs.reporting.recorder as module

module.INDEX_EVERY_S = 0.0
folder, step = Path(sys.argv[1]), int(sys.argv[2])
recorder = Recorder(folder, read_state(folder))
recorder(Ready({}, ("air", "one"), 1, step))
while True:
    step += 1
    recorder(Metrics(1, step, 0.01 * step, {f"m{n}": step + n / 10 for n in range(5)}))
    recorder.index.drain()
"""


@pytest.mark.long
@pytest.mark.fault(16, "metrics writer killed again and again: database whole, no half batch, rebuild gives the same")
def test_killed_metrics_writer_leaves_whole_batches(root: Path, config: Callable[..., TrainConfig]) -> None:
    folder, random_steps, last = create_run(root, config()), random.Random(1), 0
    for _ in range(KILLS):
        command = [sys.executable, "-c", METRICS_WRITER, str(folder), str(last)]
        writer = subprocess.Popen(command, cwd=PROJECT, env=module_environment())
        target = last + random_steps.randint(3, 40)
        wait_until(lambda: any(row.step > target for row in metrics_file.read_metrics(folder)))  # noqa: B023
        writer.kill()
        writer.wait()
        last = max(row.step for row in metrics_file.read_metrics(folder)) - 1  # as if resumed from one step before
        with sqlite3.connect(root / FILE) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            batches = database.execute("SELECT step, count(*) FROM metrics GROUP BY step").fetchall()
        assert batches and all(count == NAMES for _, count in batches), batches
        steps = [row.step for row in metrics_file.read_metrics(folder)]
        assert all(steps.count(step) == NAMES for step in set(steps))
    index = open_index(root)
    for _ in range(2):
        index.rebuild()
        assert values(index.metrics_after(folder.name, 0, 10**6)) == values(metrics_file.read_metrics(folder))


def values(rows: Iterable[runs.MetricRow]) -> list[tuple[int, str, float]]:
    return [(row.step, row.name, row.value) for row in rows]
