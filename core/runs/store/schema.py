"""Tables of the database and its schema migrations.

A run is identified by the id of its root and its own: several roots, also of several machines, share a database.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_meta = sa.MetaData()
VERSION = sa.Table("schema_version", _meta, sa.Column("version", sa.Integer, nullable=False))
ROOTS = sa.Table(  # where each root was seen: several machines may mount it at different paths
    "roots",
    _meta,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("host", sa.String(255), primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
)
RUNS = sa.Table(
    "runs",
    _meta,
    sa.Column("root", sa.String(32), primary_key=True),
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("preset", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("epochs", sa.Integer, nullable=False),
    sa.Column("best_epoch", sa.Integer),
    sa.Column("best_dice", sa.Float),
    sa.Column("best_measured_on", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("config", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),  # the whole state, and the tags
    sa.Column("written_at", sa.Float, nullable=False),  # by the clock of the database
    sa.Column("metrics_size", sa.BigInteger),  # bytes of the metrics file whose values are in the index
)
METRICS = sa.Table(
    "metrics",
    _meta,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("root", sa.String(32), nullable=False),
    sa.Column("run", sa.String(128), nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("elapsed_s", sa.Float, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("value", sa.Float),
    sa.Index("metrics_by_run", "root", "run", "id"),
    sqlite_autoincrement=True,
)
ANSWERS = sa.Table(  # the only copy of the quiz answers
    "quiz_answers",
    _meta,
    sa.Column("game", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("questions", sa.Integer, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("plane", sa.String(16), nullable=False),
    sa.Column("slice", sa.Integer, nullable=False),
    sa.Column("first_slice", sa.Integer, nullable=False),
    sa.Column("slices", sa.Integer, nullable=False),
    sa.Column("difficulty", sa.String(16), nullable=False),
    sa.Column("dice", sa.Float, nullable=False),
    sa.Column("differing", sa.Integer, nullable=False),
    sa.Column("foreground", sa.Integer, nullable=False),
    sa.Column("truth_side", sa.String(8), nullable=False),
    sa.Column("chosen_side", sa.String(8), nullable=False),
    sa.Column("correct", sa.Boolean, nullable=False),
    sa.Column("confidence", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("answered_at", sa.Float, nullable=False, index=True),
    sa.Column("why", sa.Text, nullable=False),
)

NOTES = sa.Table(  # index of the notes of reviewers (core.runs.store.review_notes)
    "review_notes",
    _meta,
    sa.Column("root", sa.String(32), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("mark", sa.String(16), nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("i", sa.Integer),
    sa.Column("j", sa.Integer),
    sa.Column("k", sa.Integer),
    sa.Column("made_at", sa.Float, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)


def _version_1(connection: Connection) -> None:
    """Version 1 had runs and measurements alone, which version 3 makes anew."""


def _version_2(connection: Connection) -> None:
    _meta.create_all(connection, tables=[ANSWERS])


def _version_3(connection: Connection) -> None:
    """Keys by root and run. The rows of runs are made again from the folders when a root is next opened."""
    for table in ("metrics", "runs"):
        connection.execute(sa.DDL(f"DROP TABLE IF EXISTS {table}"))
    _meta.create_all(connection, tables=[ROOTS, RUNS, METRICS])


def _version_4(connection: Connection) -> None:
    _meta.create_all(connection, tables=[NOTES])


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_version_1, _version_2, _version_3, _version_4)
REBUILT = (ROOTS, RUNS, METRICS, NOTES)  # what is made again from the run folders
TABLES = (*REBUILT, ANSWERS)  # all but the version
KEPT = tuple(table for table in TABLES if table not in REBUILT)  # what exists in the database alone
