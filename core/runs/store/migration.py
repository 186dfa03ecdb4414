"""Migration of the database to the newest schema, by one program at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from core.errors import RunError
from core.runs.store import postgres
from core.runs.store.database_errors import display_name, reason_of
from core.runs.store.schema import MIGRATIONS, VERSION


def migrate(engine: Engine, migrations: Sequence[Callable[[Connection], None]] = MIGRATIONS) -> tuple[int, int]:
    """Bring the schema to the newest version in one transaction; returns the versions before and after.

    Parameters
    ----------
    engine : sqlalchemy.Engine. The database.
    migrations : sequence of callable. Entry n migrates version n to version n + 1.

    Raises
    ------
    RunError
        If the database is newer than the program.
    """
    newest = len(migrations)
    with engine.execution_options(reading=True).connect() as connection:
        version = schema_version(connection)
        if version == newest:
            return newest, newest
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            postgres.lock_for_migration(connection)
        VERSION.create(connection, checkfirst=True)
        version = connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() or 0
        if version > newest:
            raise RunError(
                f"{display_name(engine.url)}: expected schema version {newest} or older, got {version}; "
                "update Segmentarium, or move the file away (it holds the answers of the quiz) and run `runs rebuild`"
            )
        for migration in migrations[version:]:
            migration(connection)
        if version < newest:
            connection.execute(VERSION.delete())
            connection.execute(VERSION.insert().values(version=newest))
    if 0 < version < newest:
        print(
            f"{display_name(engine.url)}: tables brought from version {version} to {newest}; the answers of the quiz "
            "are kept, the index of runs is made again from their folders",
            file=sys.stderr,
            flush=True,
        )
    return version, newest


def schema_version(connection: Connection) -> int:
    """Version of the schema; 0 of an empty database."""
    if not sa.inspect(connection).has_table(VERSION.name):
        return 0
    return connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() or 0


def migrate_url(url: sa.URL, new_engine: Callable[[sa.URL], Engine]) -> tuple[int, int]:
    """Bring the database of a URL to the newest schema; returns the versions before and after.

    Raises
    ------
    RunError
        If it cannot be used.
    """
    engine = new_engine(url)
    try:
        return migrate(engine)
    except SQLAlchemyError as error:
        raise RunError(f"{display_name(url)}: cannot be migrated: {reason_of(error)}; nothing was changed") from error
    finally:
        engine.dispose()
