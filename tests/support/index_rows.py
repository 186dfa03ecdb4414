"""Rows of the index, read as another program would."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core.runs.store import database
from core.runs.store.database import database_url
from core.runs.store.root_id import read_root_id
from core.runs.store.schema import METRICS, RUNS


def run_rows(root: Path) -> list[dict[str, Any]]:
    """Rows of the runs of a checkpoints root, oldest first; without the time at which they were written."""
    query = (
        sa.select(*(column for column in RUNS.c if column is not RUNS.c.written_at))
        .where(RUNS.c.root == read_root_id(root))
        .order_by(RUNS.c.created_at, RUNS.c.id)
    )
    return _read(root, query)


def metric_rows(root: Path) -> list[dict[str, Any]]:
    """Rows of all measurements in the database, by run and id; without the ids."""
    columns = [METRICS.c[name] for name in ("root", "run", "epoch", "step", "elapsed_s", "name", "value")]
    return _read(root, sa.select(*columns).order_by(METRICS.c.root, METRICS.c.run, METRICS.c.id))


def end_index_writers() -> None:
    """End the threads that write the index of runs which a test left in the middle, as the death of a trainer would."""
    for thread in threading.enumerate():
        if thread.name == "index writer":
            writer = thread._target.__self__  # type: ignore[attr-defined]
            writer.reread()
            writer.close()


def close_connections() -> None:
    """Close the connections of this process to databases; the next use opens new ones."""
    for _, engine in database._engines.values():
        engine.dispose()


def _read(root: Path, query: sa.Select[Any]) -> list[dict[str, Any]]:
    engine = sa.create_engine(database_url(root))
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    engine.dispose()
    return rows
