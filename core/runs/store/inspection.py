"""Report about a database: what it is, what it holds, whether it works."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from core.formatting import format_count
from core.runs.store import folder as files
from core.runs.store import postgres
from core.runs.store.database import database_url, new_engine
from core.runs.store.database_errors import display_name, reason_of, sqlite_damage
from core.runs.store.migration import schema_version
from core.runs.store.root_id import read_root_id
from core.runs.store.rows import count_rows
from core.runs.store.schema import MIGRATIONS, ROOTS, RUNS, TABLES


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes
    ----------
    url : str. The database, without its password.
    software : str. Name and version; empty where it gives no answer.
    version, newest : int. Version of the tables, 0 where there are none, and that of this program.
    writable : bool. Whether it accepts changes.
    answer_ms : float, optional. Median time of a small query.
    rows : dict. Number of rows of each table.
    roots : tuple of str. Places of the roots, with the number of their runs.
    problems : tuple of str. What is wrong, and what to do.
    """

    url: str
    software: str = ""
    version: int = 0
    newest: int = len(MIGRATIONS)
    writable: bool = False
    answer_ms: float | None = None
    rows: dict[str, int] = field(default_factory=dict)
    roots: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def inspect_database(root: Path) -> Inspection:
    """Look at the database of a root. Changes nothing.

    Raises
    ------
    RunError
        If its URL cannot be used.
    """
    url = database_url(root)
    name = display_name(url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        return Inspection(name, problems=(f"{name}: there is no such file yet; `database migrate` makes it",))
    engine = new_engine(url)
    try:
        with engine.execution_options(reading=True).connect() as connection:
            return _inspect(root, name, connection)
    except SQLAlchemyError as error:
        return Inspection(name, problems=(f"{name}: {reason_of(error)}",))
    finally:
        engine.dispose()


def _inspect(root: Path, name: str, connection: Connection) -> Inspection:
    software, version = _server_version(connection), schema_version(connection)
    times = sorted(_seconds(connection) for _ in range(5))
    writable = _is_writable(connection)
    problems = [] if writable else [f"{name}: it accepts no changes now; training goes on without it"]
    if version != len(MIGRATIONS):
        problems.append(f"{name}: expected tables of version {len(MIGRATIONS)}, got {version}; run `database migrate`")
        return Inspection(
            name, software, version, writable=writable, answer_ms=1000 * times[2], problems=tuple(problems)
        )
    if damage := sqlite_damage(connection, quick=True):
        problems.append(f"{name}: damaged: {damage}; `runs rebuild` makes it again")
    if connection.dialect.name == "postgresql":
        postgres.lift_limits(connection)  # it answers: counting millions of rows takes long
    id = read_root_id(root)
    indexed = {str(run) for run in connection.execute(sa.select(RUNS.c.id).where(RUNS.c.root == id)).scalars()}
    folders = {folder.name for folder in files.run_folders(root)}
    if missing := len(folders - indexed):
        problems.append(f"{root}: {missing} of {len(folders)} runs are not in the index; run `runs rebuild`")
    if gone := len(indexed - folders):
        problems.append(f"{root}: {format_count(gone, 'run')} of the index without a folder; run `runs rebuild`")
    counted = connection.execute(sa.select(RUNS.c.root, sa.func.count()).group_by(RUNS.c.root)).all()
    number = {str(of_root): int(runs) for of_root, runs in counted}
    seen = connection.execute(sa.select(ROOTS).order_by(ROOTS.c.host, ROOTS.c.path)).all()
    places = tuple(f"{s.host}:{s.path} ({s.id}, {number.get(s.id, 0)} runs)" for s in seen)
    rows = {table.name: count_rows(connection, table) for table in TABLES}
    return Inspection(
        name, software, version, writable=writable, answer_ms=1000 * times[2], rows=rows, roots=places,
        problems=tuple(problems),
    )  # fmt: skip


def _server_version(connection: Connection) -> str:
    """Name and version of the database's software."""
    query = "select sqlite_version()" if connection.dialect.name == "sqlite" else "show server_version"
    name = "SQLite" if connection.dialect.name == "sqlite" else "PostgreSQL"
    return f"{name} {connection.exec_driver_sql(query).scalar()}"


def _seconds(connection: Connection) -> float:
    started = time.perf_counter()
    connection.execute(sa.select(1)).scalar()
    return time.perf_counter() - started


def _is_writable(connection: Connection) -> bool:
    if connection.dialect.name == "postgresql":
        return str(connection.exec_driver_sql("show transaction_read_only").scalar()) == "off"
    file = connection.engine.url.database
    return not file or (os.access(file, os.W_OK) and os.access(Path(file).absolute().parent, os.W_OK))
