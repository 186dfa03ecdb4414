"""A real PostgreSQL server for the tests of this folder, and an empty database for each of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.runs.store import availability, database
from tests.conftest import missing
from tests.support.index_rows import close_connections, end_index_writers
from tests.support.postgres import PostgresServer, programs


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A running server."""
    bin = programs()
    if bin is None:
        missing("needs a PostgreSQL server: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="segmentarium-postgres-"))
    running = PostgresServer(folder, bin)
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def url(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty database, which the program uses."""
    server.thaw()
    chosen = server.new_database()
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", chosen)
    yield chosen
    server.thaw()
    end_index_writers()
    close_connections()
    database._engines.clear()
    availability._unavailable.clear()
