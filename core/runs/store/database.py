"""The database of a checkpoints root: its URL, its connections and transactions, its schema, and its errors in words.

The default is SQLite in WAL mode in the root; ``SEGMENTARIUM_DATABASE`` (an SQLAlchemy URL) selects another database,
such as PostgreSQL, which several roots and machines may share. :mod:`core.runs.store.file_systems` says where SQLite's
file lies for a root on a network file system.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from core.errors import RunError
from core.runs.store import postgres
from core.runs.store.availability import note_unavailable, refuse_unavailable
from core.runs.store.database_errors import explain_answers
from core.runs.store.file_systems import (
    IN_ROOT,
    INDEX_FOLDER_VARIABLE,
    file_system_of,
    is_network,
    local_index_folder,
)
from core.runs.store.migration import migrate
from core.runs.store.root_id import root_id

FILE = "index.sqlite"
WAL_SUFFIX, SHM_SUFFIX = "-wal", "-shm"  # of the files that SQLite keeps beside one that is in use
VARIABLE = "SEGMENTARIUM_DATABASE"
BUSY_TIMEOUT_MS = 2000

_engines: dict[tuple[sa.URL, int, int, bool], tuple[int, Engine]] = {}


@dataclass(frozen=True)
class Database:
    """An open database, as one user of it (index or answers) sees it.

    Attributes
    ----------
    engine : sqlalchemy.Engine. Its connections.
    explain : callable. Words for an error.
    """

    engine: Engine
    explain: Callable[[sa.URL, SQLAlchemyError], RunError]

    def begin(self, reading: bool = False) -> Transaction:
        """A transaction, as a context manager that gives the connection."""
        return Transaction(self.engine, reading, self.explain)


def open_database(
    root: Path,
    explain: Callable[[sa.URL, SQLAlchemyError], RunError],
    *,
    timeout_ms: int = BUSY_TIMEOUT_MS,
    durable: bool = False,
) -> Database:
    """The database of a checkpoints root, created or migrated first; its connections are kept per process.

    Parameters
    ----------
    root : Path. Checkpoints root.
    explain : callable. Words for an error.
    timeout_ms : int. Longest wait for a lock.
    durable : bool. Whether commits survive a power cut.

    Raises
    ------
    RunError
        If the database cannot be opened, or was made by a newer version.
    """
    url = database_url(root)
    refuse_unavailable(url)
    try:
        return Database(_engine(url, timeout_ms, durable), explain)
    except SQLAlchemyError as error:
        note_unavailable(url, error, new_engine)
        raise explain(url, error) from error


def open_answers(root: Path, *, reading: bool = False, timeout_ms: int = BUSY_TIMEOUT_MS) -> Transaction:
    """A durable transaction for what exists in the database alone, such as the quiz answers.

    Raises
    ------
    RunError
        As :func:`open_database`, and if the transaction cannot begin or commit.
    """
    return open_database(root, explain_answers, timeout_ms=timeout_ms, durable=True).begin(reading)


def is_shared() -> bool:
    """Whether a database is chosen by its URL, so that several roots may use it."""
    return bool(os.environ.get(VARIABLE))


def database_url(root: Path) -> sa.URL:
    """URL of the database: ``SEGMENTARIUM_DATABASE``, else SQLite in the root, or on this machine for a root on a
    network file system.

    Raises
    ------
    RunError
        If the variable is not the URL of a supported database, or names an SQLite file on a network file system.
    """
    given = os.environ.get(VARIABLE, "")
    if given:
        return parse_url(given, VARIABLE)
    if os.environ.get(INDEX_FOLDER_VARIABLE) == IN_ROOT:
        return sqlite_url(root / FILE)
    if os.environ.get(INDEX_FOLDER_VARIABLE) or is_network(file_system_of(root)):
        return sqlite_url(_local_index(root))
    return sqlite_url(root / FILE)


def parse_url(text: str, name: str) -> sa.URL:
    """The URL of a database; PostgreSQL is used through psycopg 3.

    Parameters
    ----------
    text : str. The URL.
    name : str. Where it comes from, for messages.

    Raises
    ------
    RunError
        If it is no URL, or that of a database that is not supported. The message holds no password.
    """
    try:
        url = postgres.with_driver(sa.make_url(text))
    except SQLAlchemyError as error:
        raise RunError(
            f"{name}: expected a database's URL, such as sqlite:////home/me/runs.db or "
            f"postgresql://user@host/segmentarium, got one that begins with {text[:8]!r}"
        ) from error
    if url.get_backend_name() != "sqlite" and not postgres.is_postgres(url):
        raise RunError(f"{name}: expected an SQLite or a PostgreSQL database, got {url.drivername}://")
    if url.get_backend_name() == "sqlite" and url.database:
        kind = file_system_of(Path(url.database))
        if is_network(kind) and os.environ.get(INDEX_FOLDER_VARIABLE) != IN_ROOT:
            raise RunError(
                f"{url.database}: expected a local disk for an SQLite database, got a network file system ({kind}), on "
                f"which SQLite loses data; set {VARIABLE} to a local file or to a PostgreSQL database"
            )
    return url


def sqlite_url(path: Path) -> sa.URL:
    """The URL of an SQLite file. It is not parsed: a path may hold characters that are special in a URL."""
    return sa.URL.create("sqlite", database=str(path))


def is_local_copy(root: Path) -> bool:
    """Whether the index of a root lies outside it because of its file system, so that it must hold nothing of its
    own."""
    url = database_url(root)
    return not is_shared() and url.database != str(root / FILE)


class Transaction:
    """A transaction that raises database errors as :class:`RunError`."""

    def __init__(self, engine: Engine, reading: bool, explain: Callable[[sa.URL, SQLAlchemyError], RunError]) -> None:
        self._engine = engine.execution_options(reading=reading)
        self._explain = explain

    def __enter__(self) -> Connection:
        refuse_unavailable(self._engine.url)
        try:
            self._context = self._engine.begin()
            return self._context.__enter__()
        except SQLAlchemyError as error:
            raise self._reported(error) from error

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            self._context.__exit__(kind, error, traceback)
        except SQLAlchemyError as failed:
            raise self._reported(failed) from failed
        if isinstance(error, SQLAlchemyError):
            raise self._reported(error) from error

    def _reported(self, error: SQLAlchemyError) -> RunError:
        note_unavailable(self._engine.url, error, new_engine)
        return self._explain(self._engine.url, error)


def new_engine(url: sa.URL, timeout_ms: int = BUSY_TIMEOUT_MS, durable: bool = False) -> Engine:
    """An engine for a database that is not migrated yet.

    Raises
    ------
    RunError
        If its driver is not installed.
    """
    if postgres.is_postgres(url):
        return postgres.create_engine(url, timeout_ms, durable)
    engine = sa.create_engine(url)
    sa.event.listen(engine, "connect", lambda connection, _: _prepare_sqlite(connection, timeout_ms, durable))
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _local_index(root: Path) -> Path:
    folder = local_index_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{error.filename or folder}: expected a folder for the index of the runs in {root}, which is on a network "
            f"file system: {error.strerror or error}; choose a local folder by {INDEX_FOLDER_VARIABLE}"
        ) from error
    if is_network(kind := file_system_of(folder)):
        raise RunError(
            f"{folder}: expected a local disk for the index of the runs in {root}, got a network file system ({kind}), "
            f"on which SQLite loses data; choose a local folder by {INDEX_FOLDER_VARIABLE}, or set {VARIABLE} to the "
            "URL of a PostgreSQL database"
        )
    return folder / f"{root_id(root)}.sqlite"


def _engine(url: sa.URL, timeout_ms: int, durable: bool = False) -> Engine:
    """The SQLAlchemy engine of a database, kept per process: a forked child must not use its parent's connections, and
    a file that was deleted or replaced must not be written to any more. ``durable``: commits survive a power cut; the
    index does not need that, as it can be rebuilt."""
    key = (url, timeout_ms, os.getpid(), durable)
    cached = _engines.get(key)
    if cached is not None:
        if cached[0] == _inode(url):
            return cached[1]
        cached[1].dispose()
    engine = new_engine(url, timeout_ms, durable)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    _engines[key] = (_inode(url), engine)
    return engine


def _inode(url: sa.URL) -> int:
    """Inode of SQLite's file; 0 for other databases, or where there is no file."""
    try:
        return Path(url.database or "").stat().st_ino if url.get_backend_name() == "sqlite" else 0
    except OSError:
        return 0


def _begin_sqlite(connection: Connection) -> None:
    # Writers take the write lock at the start: an upgrade from a read lock fails at once instead of waiting.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _prepare_sqlite(connection: Any, timeout_ms: int, durable: bool) -> None:
    connection.isolation_level = None  # transactions begin explicitly, in _begin_sqlite
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {timeout_ms}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    cursor.close()
