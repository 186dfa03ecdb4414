"""Rows of a table in both kinds of database: inserted or updated in one statement, counted."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

CHUNK = 2000  # rows of one statement


def count_rows(connection: Connection, table: sa.Table) -> int:
    """Number of rows of a table."""
    return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0


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
