"""Tables of the database and its schema migrations."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_meta = sa.MetaData()
VERSION = sa.Table("schema_version", _meta, sa.Column("version", sa.Integer, nullable=False))
RUNS = sa.Table(
    "runs",
    _meta,
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("root", sa.Text, nullable=False, index=True),
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
)
METRICS = sa.Table(
    "metrics",
    _meta,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(128), nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("elapsed_s", sa.Float, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("value", sa.Float),
    sa.Index("metrics_by_run", "run", "id"),
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


def _version_1(connection: Connection) -> None:
    _meta.create_all(connection, tables=[RUNS, METRICS])


def _version_2(connection: Connection) -> None:
    _meta.create_all(connection, tables=[ANSWERS])


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_version_1, _version_2)
