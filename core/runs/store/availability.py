"""Availability of database servers: one failure is remembered and a thread tries again, so that pages do not wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from core.runs.store import postgres
from core.runs.store.database_errors import RUNS_INTACT, UnavailableError, display_name, reason_of

PROBE_EVERY_S = 2.0

_unavailable: dict[tuple[sa.URL, int], str] = {}  # reason by database and process, while a thread tries it again


def unavailable_reason(url: sa.URL) -> str:
    """Why a database does not answer now; empty where no failure is known. Does not connect to it."""
    return _unavailable.get((url, os.getpid()), "")


def refuse_unavailable(url: sa.URL) -> None:
    """Fail at once while a server is known not to answer.

    Raises
    ------
    UnavailableError
        If it does not.
    """
    if reason := unavailable_reason(url):
        raise UnavailableError(reason)


def note_unavailable(url: sa.URL, error: SQLAlchemyError, new_engine: Callable[[sa.URL], Engine]) -> None:
    """If an error says that a server does not answer, remember it until a thread reaches the server again.

    Parameters
    ----------
    url : sqlalchemy.URL. The database.
    error : SQLAlchemyError. Error of a caller.
    new_engine : callable. Makes an engine of the URL.
    """
    key = (url, os.getpid())
    if not postgres.is_postgres(url) or not postgres.is_unavailable(error) or key in _unavailable:
        return
    _unavailable[key] = _describe(url, error)
    threading.Thread(target=_probe, args=(url, new_engine), name="database probe", daemon=True).start()


def _probe(url: sa.URL, new_engine: Callable[[sa.URL], Engine]) -> None:
    key = (url, os.getpid())
    while key in _unavailable:
        time.sleep(PROBE_EVERY_S)
        engine = new_engine(url)
        try:
            with engine.connect() as connection:
                connection.execute(sa.select(1))
            _unavailable.pop(key, None)
        except SQLAlchemyError as error:
            _unavailable[key] = _describe(url, error)
        finally:
            engine.dispose()


def _describe(url: sa.URL, error: SQLAlchemyError) -> str:
    return f"{display_name(url)}: the database gives no answer: {reason_of(error)}; {RUNS_INTACT}"
