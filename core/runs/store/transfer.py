"""Copies the content of one database to another, SQLite or PostgreSQL, and proves that nothing was lost."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from core.errors import RunError
from core.runs.store import postgres
from core.runs.store.database import new_engine
from core.runs.store.database_errors import display_name, reason_of
from core.runs.store.migration import migrate, schema_version
from core.runs.store.rows import CHUNK, count_rows, measured_runs, remove_measurements, upsert
from core.runs.store.schema import METRICS, MIGRATIONS, TABLES
from core.types import ProgressCallback


@dataclass(frozen=True)
class Copied:
    """Result of a copy.

    Attributes
    ----------
    source, target : str. The databases, without passwords.
    rows : dict. Rows of each table that were copied and found equal in the target.
    """

    source: str
    target: str
    rows: dict[str, int]


def copy_database(
    source: sa.URL,
    target: sa.URL,
    tables: Sequence[sa.Table] = TABLES,
    on_row: ProgressCallback | None = None,
) -> Copied:
    """Copy all rows to another database in one transaction; rows of the same keys there are replaced, others stay.

    Parameters
    ----------
    source, target : sqlalchemy.URL. The databases. The tables of the target are made or migrated first; the source is
        only read.
    tables : sequence of sqlalchemy.Table. What is copied.
    on_row : callable, optional. Receives the number of rows that were copied and of all.

    Raises
    ------
    RunError
        If one of them cannot be used, the source has another schema version, or a row in the target differs in the end.
        The target is then as it was.
    """
    if source == target:
        raise RunError(f"{display_name(source)}: expected two databases, got the same one twice")
    reading, writing = new_engine(source), new_engine(target, durable=True)
    url = target
    try:
        with writing.connect():  # a wrong address is found before anything is read
            pass
        migrate(writing)
        url = source
        with reading.execution_options(reading=True).connect() as origin:
            _check_version(origin, source)
            _lift_limits(origin)
            total = sum(count_rows(origin, table) for table in tables)
            url = target
            with writing.begin() as destination:
                _lift_limits(destination)
                done, counts = 0, dict[str, int]()
                for table in tables:
                    _make_room(origin, destination, table)
                    for rows in _chunks(origin, table):
                        _write(destination, table, rows)
                        counts[table.name] = counts.get(table.name, 0) + len(rows)
                        done += len(rows)
                        if on_row is not None:
                            on_row(done, total)
                    _compare(origin, destination, table)
                    counts.setdefault(table.name, 0)
    except SQLAlchemyError as error:
        raise RunError(f"{display_name(url)}: cannot be copied: {reason_of(error)}; nothing was changed") from error
    finally:
        reading.dispose()
        writing.dispose()
    return Copied(display_name(source), display_name(target), counts)


def _lift_limits(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        postgres.lift_limits(connection)


def _check_version(connection: Connection, url: sa.URL) -> None:
    version = schema_version(connection)
    if version != len(MIGRATIONS):
        raise RunError(
            f"{display_name(url)}: expected a database with schema version {len(MIGRATIONS)}, got {version or 'none'}; "
            "bring it up to date with `database migrate` first"
        )


def _content(table: sa.Table) -> list[sa.Column[Any]]:
    """The columns that mean something outside their database: all but numbers that it assigns."""
    return [column for column in table.c if column is not table.autoincrement_column]


def _chunks(connection: Connection, table: sa.Table) -> Iterator[list[dict[str, Any]]]:
    """The rows by their keys, which for numbered rows is the order in which they were added."""
    query = sa.select(*_content(table)).order_by(*table.primary_key)
    result = connection.execute(query, execution_options={"yield_per": CHUNK}).mappings()
    for part in result.partitions():
        yield [dict(row) for row in part]


def _make_room(source: Connection, target: Connection, table: sa.Table) -> None:
    """Remove what the target has of the runs whose measurements are copied: these are numbered anew."""
    if table is METRICS:
        for of_root, run in measured_runs(source):
            remove_measurements(target, of_root, run)


def _write(connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if table.autoincrement_column is not None:
        connection.execute(table.insert(), rows)
        return
    for row in rows:
        upsert(connection, table, row)


def _compare(source: Connection, target: Connection, table: sa.Table) -> None:
    """Compare all values.

    Raises
    ------
    RunError
        If a row of the source is not in the target.
    """
    missing = _fingerprints(source, table) - _fingerprints(target, table)
    if missing:
        raise RunError(
            f"{table.name}: expected every row in the target as it is in the source, {missing.total()} are missing or "
            "differ; nothing was changed"
        )


def _fingerprints(connection: Connection, table: sa.Table) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for rows in _chunks(connection, table):
        for row in rows:
            found[hashlib.blake2b(repr(list(row.values())).encode(), digest_size=16).digest()] += 1
    return found
