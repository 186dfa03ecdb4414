"""Rows of a table in both kinds of database: inserted or updated in one statement, counted; measurements found by run
and removed in parts, as a server limits the time of a statement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from core.runs.store.schema import METRICS

CHUNK = 2000  # rows of one statement
REMOVED = 20_000  # rows that one statement removes at most


def count_rows(connection: Connection, table: sa.Table) -> int:
    """Number of rows of a table."""
    return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0


def measured_runs(connection: Connection, root: str = "") -> Iterator[tuple[str, str]]:
    """Ids of root and run of the runs with measurements; of one root, if it is given. Each is one look into the index
    of the table, which may have millions of rows."""
    for of_root in [root] if root else _distinct(connection, METRICS.c.root):
        for run in _distinct(connection, METRICS.c.run, METRICS.c.root == of_root):
            yield of_root, run


def remove_measurements(connection: Connection, root: str, run: str, from_id: int = 0) -> None:
    """Remove the measurements of a run, in parts.

    Parameters
    ----------
    connection : sqlalchemy.Connection. To the database.
    root, run : str. Ids.
    from_id : int. Only those with this id and higher ones.
    """
    last, id = from_id - 1, METRICS.c.id
    while True:
        rest = (METRICS.c.root == root) & (METRICS.c.run == run) & (id > last)
        part = sa.select(id).where(rest).order_by(id).limit(REMOVED).subquery()
        end = connection.execute(sa.select(sa.func.max(part.c.id))).scalar()
        if end is None:
            return
        connection.execute(METRICS.delete().where(rest, id <= end))
        last = end


def upsert(connection: Connection, table: sa.Table, values: dict[str, Any]) -> None:
    """Insert a row, or update the columns that are given of the row with the same key."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**values)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in values if name not in keys}
    if changed:
        statement = statement.on_conflict_do_update(index_elements=keys, set_=changed)
    else:
        statement = statement.on_conflict_do_nothing()
    connection.execute(statement)


def _distinct(connection: Connection, column: sa.Column[Any], *conditions: sa.ColumnElement[bool]) -> Iterator[str]:
    """The different values of a column, in ascending order."""
    query, last = sa.select(sa.func.min(column)).where(*conditions), None
    while True:
        last = connection.execute(query if last is None else query.where(column > last)).scalar()
        if last is None:
            return
        yield last
