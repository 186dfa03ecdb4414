"""Damage of SQLite files, and translation of database errors to RunError: what is wrong, what is safe, what to do."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from core.errors import RunError
from core.runs.store import postgres

RUNS_INTACT = "the runs themselves are safe in their folders"


class DamagedIndexError(RunError):
    """The SQLite file of the index is damaged or not a database."""


class UnavailableError(RunError):
    """The server of the database gives no answer now."""


def explain_index(url: sa.URL, error: SQLAlchemyError) -> RunError:
    """The :class:`RunError` for a database error of the index of runs."""
    if _is_damage(error):
        return damaged_index(url, reason_of(error))
    kind = UnavailableError if postgres.is_unavailable(error) else RunError
    return kind(f"{display_name(url)}: the index of runs cannot be used: {reason_of(error)}; {RUNS_INTACT}")


def damaged_index(url: sa.URL, reason: str) -> DamagedIndexError:
    """The error of a damaged index."""
    return DamagedIndexError(
        f"{display_name(url)}: the index of runs is damaged: {reason}; {RUNS_INTACT}, and "
        "`python -m core runs rebuild` makes it again from them"
    )


def explain_answers(url: sa.URL, error: SQLAlchemyError) -> RunError:
    """The :class:`RunError` for a database error of the quiz answers, which exist in the database alone."""
    problem = f"{display_name(url)}: the quiz answers cannot be accessed: {reason_of(error)}"
    if _is_damage(error):
        return DamagedIndexError(f"{problem}; `python -m core runs rebuild` recovers those that are readable")
    if postgres.is_unavailable(error):
        return UnavailableError(f"{problem}; try again when the server answers")
    return RunError(f"{problem}; repair the database and try again")


def sqlite_damage(connection: Connection, quick: bool = False) -> str:
    """The first damage that SQLite finds in its file; empty where there is none, and for other databases.

    Parameters
    ----------
    connection : sqlalchemy.Connection. To the database.
    quick : bool. Whether to leave out the comparison of the tables with their indices, which takes longer.
    """
    if connection.dialect.name != "sqlite":
        return ""
    found = str(connection.exec_driver_sql(f"PRAGMA {'quick' if quick else 'integrity'}_check(1)").scalar())
    return "" if found == "ok" else found.splitlines()[0]


def display_name(url: sa.URL) -> str:
    """SQLite's file, or the URL without its password."""
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def reason_of(error: SQLAlchemyError) -> str:
    """The first line of an error, and what to do about it where that is known."""
    reason = str(getattr(error, "orig", None) or error).splitlines()[0]
    return f"{reason} ({advice})" if (advice := postgres.advice(error)) else reason


def _is_damage(error: SQLAlchemyError) -> bool:
    """Whether SQLite reports a damaged file, or one that is not a database."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF  # without the extended code
    return code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
