"""PostgreSQL: connections that never wait for a server without limit, and locks held to the end of a transaction."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from contextlib import suppress
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from core.errors import RunError

CONNECT_TIMEOUT_S = 3
ANSWER_TIMEOUT_S = 3.0  # of the client for one answer: a frozen server does not keep its own time-outs
STATEMENT_TIMEOUT_MS = 2500
ADMINISTRATION_TIMEOUT_S = 3600.0  # of the client for one answer, in a transaction of administration
MIGRATION_WAIT_S = 60.0
INSTALL = "pip install -r requirements-postgres.txt"


def is_postgres(url: sa.URL) -> bool:
    """Whether a URL is that of a PostgreSQL database."""
    return url.get_backend_name() in ("postgresql", "postgres")


def with_driver(url: sa.URL) -> sa.URL:
    """The URL with psycopg 3 as its driver, unless it names one."""
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def create_engine(url: sa.URL, lock_timeout_ms: int, durable: bool) -> Engine:
    """An engine whose connections are tested before use and give up after seconds.

    Parameters
    ----------
    url : sqlalchemy.URL. The database.
    lock_timeout_ms : int. Longest wait for a lock.
    durable : bool. Whether a commit waits until the server has it on its disk.

    Raises
    ------
    RunError
        If psycopg is not installed.
    """
    options = (
        f"-c statement_timeout={max(STATEMENT_TIMEOUT_MS, lock_timeout_ms)} -c lock_timeout={lock_timeout_ms} "
        f"-c idle_in_transaction_session_timeout=60000 -c synchronous_commit={'on' if durable else 'off'}"
    )
    given = {name: str(value) for name, value in url.query.items()}
    arguments: dict[str, Any] = {
        "connect_timeout": int(given.get("connect_timeout", CONNECT_TIMEOUT_S)),
        "options": f"{options} {given.get('options', '')}".strip(),
        "application_name": given.get("application_name", "segmentarium"),
    }
    settings: dict[str, Any] = dict(
        pool_pre_ping=True, pool_timeout=ANSWER_TIMEOUT_S, pool_recycle=1800, connect_args=arguments
    )
    try:
        engine = sa.create_engine(url, **settings)
    except ImportError as error:
        raise RunError(
            f"PostgreSQL needs the Python package psycopg, which is not installed ({error}); {INSTALL}"
        ) from error
    if engine.dialect.driver == "psycopg":
        sa.event.listen(engine, "do_connect", _connect)
        sa.event.listen(engine, "checkin", _limit_again)
    return engine


def lift_limits(connection: Connection) -> None:
    """Let the statements of the present transaction take as long as they need, for administration: a rebuild, a copy or
    a count of millions of rows. The connection was made within the limits, so a frozen server is found before."""
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        connection.exec_driver_sql(f"SET LOCAL {name} = 0")
    raw: Any = connection.connection.driver_connection
    if hasattr(raw, "answer_timeout_s"):
        raw.answer_timeout_s = ADMINISTRATION_TIMEOUT_S


def lock(connection: Connection, *names: str, shared: bool = False) -> None:
    """Hold an advisory lock until the end of the transaction; the lock time-out of the connection applies."""
    function = sa.func.pg_advisory_xact_lock_shared if shared else sa.func.pg_advisory_xact_lock
    connection.execute(sa.select(function(_key(*names))))


def lock_for_migration(connection: Connection) -> None:
    """Hold the lock of the schema until the end of the transaction, and wait for it longer than any lock time-out.

    Raises
    ------
    RunError
        If another program holds it for a minute.
    """
    deadline = time.monotonic() + MIGRATION_WAIT_S
    query = sa.select(sa.func.pg_try_advisory_xact_lock(_key("schema")))
    while not connection.execute(query).scalar():
        if time.monotonic() > deadline:
            raise RunError(
                f"the database: another program has changed its tables for {MIGRATION_WAIT_S:g} s; try again later"
            )
        time.sleep(0.05)


def is_unavailable(error: BaseException) -> bool:
    """Whether an error says that the server does not answer, cannot be reached or accepts no more connections."""
    if isinstance(error, sa.exc.TimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None) or ""
    return (
        error.connection_invalidated
        or state[:2] in ("08", "57")
        or (isinstance(error, sa.exc.OperationalError) and not state)
    )


def advice(error: BaseException) -> str:
    """What to do about an error of the server, by its SQLSTATE; empty where nothing is known."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    known = {
        "25006": "the server accepts no changes now (it is a standby, or set to read-only)",
        "53100": "the disk of the server is full: make room there",
        "53300": "the server has no more connections: raise max_connections, or close programs that use it",
        "42501": "the user needs the right to create and change tables in this database",
        "55P03": "another program holds the rows; it is tried again",
        "57014": "the server took too long",
    }
    if state:
        return known.get(state, "")
    text = str(getattr(error, "orig", None) or "")  # a refused connection has no SQLSTATE
    if 'database "' in text and "does not exist" in text:
        return "create it: createdb NAME"
    if "authentication failed" in text or "role" in text:
        return "check user and password in SEGMENTARIUM_DATABASE"
    return ""


def _key(*names: str) -> int:
    """A signed 64-bit number of names."""
    text = "\0".join(("segmentarium", *names)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)


def _connect(dialect: Any, record: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    return _connection_class().connect(*arguments, **keywords)


def _limit_again(raw: Any, record: Any) -> None:
    """Limit a connection whose transaction has ended."""
    if raw is not None:
        raw.answer_timeout_s = ANSWER_TIMEOUT_S


@cache
def _connection_class() -> Any:
    import psycopg

    class LimitedConnection(psycopg.Connection[Any]):
        """A connection that is cut where the server gives no answer in time.

        Time-outs of the server do not help where the server process is frozen: the kernel goes on accepting and
        acknowledging what is sent.
        """

        cut = False
        answer_timeout_s = ANSWER_TIMEOUT_S

        def wait(self, *arguments: Any, **keywords: Any) -> Any:
            timer = threading.Timer(self.answer_timeout_s, self._cut_off, (self.fileno(),))
            timer.daemon = True
            timer.start()
            try:
                return super().wait(*arguments, **keywords)
            except psycopg.Error as error:
                if self.cut:
                    raise psycopg.OperationalError(
                        f"the server gave no answer within {self.answer_timeout_s:g} s"
                    ) from error
                raise
            finally:
                timer.cancel()

        def _cut_off(self, descriptor: int) -> None:
            self.cut = True
            with suppress(OSError):
                copy = socket.socket(fileno=os.dup(descriptor))
                try:
                    copy.shutdown(socket.SHUT_RDWR)
                finally:
                    copy.close()

    return LimitedConnection
