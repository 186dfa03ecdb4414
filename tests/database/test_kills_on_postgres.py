"""Copies and migrations of a PostgreSQL database killed at random instants: it is as before, and they are repeated."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core import cli
from core.runs.store.database import new_engine, parse_url
from core.runs.store.migration import migrate, schema_version
from core.runs.store.schema import ANSWERS, MIGRATIONS, TABLES
from core.runs.store.transfer import copy_database
from core.study.answers import read_answers, save_answer
from tests.core.runs.store.test_index import make_run
from tests.core.study.test_answers import answer
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.long(4), pytest.mark.cluster]
KILLS = 12
INSTANTS = ("before_cursor_execute", "commit")


@contextmanager
def at_each_instant(call: Callable[[], None]) -> Iterator[None]:
    """Call a function before each statement and each commit of this process."""

    def instant(*_: Any, **__: Any) -> None:
        call()

    for name in INSTANTS:
        sa.event.listen(sa.Engine, name, instant)
    try:
        yield
    finally:
        for name in INSTANTS:
            sa.event.remove(sa.Engine, name, instant)


def instants_of(work: Callable[[], object]) -> int:
    """Number of statements and commits of some work."""
    numbers = itertools.count()
    with at_each_instant(lambda: _next(numbers)):
        work()
    return next(numbers)


def kill_at(instant: int, work: Callable[[], object]) -> None:
    """Do some work in a process that is killed at one of its statements or commits, counted from 1."""

    def killed() -> None:
        numbers = itertools.count(1)
        with at_each_instant(lambda: os.kill(os.getpid(), signal.SIGKILL) if next(numbers) == instant else None):
            work()

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def random_instants(number: int, seed: int) -> list[int]:
    """Some instants, among them the last one, which is a commit."""
    chosen = random.Random(seed).sample(range(1, number), min(KILLS, number - 1))
    return [*chosen, number]


def content(url: str) -> dict[str, list[Any]]:
    """All rows of all tables, without the numbers that the database assigns."""
    engine = new_engine(parse_url(url, "URL"))
    found = {}
    with engine.connect() as connection:
        for table in TABLES:
            columns = [column for column in table.c if column is not table.autoincrement_column]
            found[table.name] = sorted(map(repr, connection.execute(sa.select(*columns))))
    engine.dispose()
    return found


@pytest.mark.fault(
    46, f"killed {KILLS + 1} times while a database is copied to PostgreSQL: it is as before, and repeated"
)
def test_copy_that_is_killed_leaves_the_target_as_it_was(
    tmp_path: Path, url: str, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, source = tmp_path / "runs", f"sqlite:///{tmp_path / 'source.sqlite'}"
    make_run(root, "a", 3)
    save_answer(root, answer(number=1))
    assert cli.main(["database", "copy", source, "--checkpoints", str(root)]) == 0
    before = content(url)
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", source)
    make_run(root, "b", 5)
    save_answer(root, answer(number=2))
    wanted = content(source)
    assert before != wanted

    def copy(target: str) -> Callable[[], object]:
        return lambda: copy_database(parse_url(source, "URL"), parse_url(target, "URL"))

    like = server.new_database()
    copy_database(parse_url(url, "URL"), parse_url(like, "URL"))  # what is removed there is counted too
    for instant in random_instants(instants_of(copy(like)), seed=46):
        kill_at(instant, copy(url))
        assert content(url) == before, f"killed at instant {instant}"
    copy(url)()
    assert content(url) == wanted
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", url)
    assert cli.main(["database", "check", "--checkpoints", str(root)]) == 0
    assert len(read_answers(root)) == 2


@pytest.mark.fault(
    47, "killed while the tables of PostgreSQL are migrated: the version before, with all answers, and again"
)
def test_migration_that_is_killed_leaves_the_version_before(url: str, server: PostgresServer) -> None:
    def old(target: str) -> sa.Engine:
        engine = new_engine(parse_url(target, "URL"))
        migrate(engine, MIGRATIONS[:2])
        with engine.begin() as connection:
            connection.exec_driver_sql("create table runs (id text)")
            connection.exec_driver_sql("create table metrics (id serial primary key, run text)")
            values = {column.name: column.type.python_type() for column in ANSWERS.c} | {"game": "kept"}
            connection.execute(ANSWERS.insert().values(**values))
        engine.dispose()
        return engine

    def answers() -> tuple[int, list[str]]:
        with engine.connect() as connection:
            return schema_version(connection), list(connection.execute(sa.select(ANSWERS.c.game)).scalars())

    other, engine = old(server.new_database()), old(url)
    for instant in random_instants(instants_of(lambda: migrate(other)), seed=47):
        kill_at(instant, lambda: migrate(new_engine(parse_url(url, "URL"))))
        assert answers() == (2, ["kept"]), f"killed at instant {instant}"
    assert migrate(engine) == (2, len(MIGRATIONS))
    assert answers() == (len(MIGRATIONS), ["kept"])
    engine.dispose()
    other.dispose()


def _next(numbers: Iterator[int]) -> None:
    next(numbers)
