"""The index: one SQL database over all run folders, so that pages can ask for what is new without reading files.

What it says of runs can be lost at any time: :meth:`Index.rebuild` makes it again from the folders. The answers of the
quiz lie in the same database (:mod:`core.study.answers`) and nowhere else. SQLite in WAL mode lies beside the runs by
default; ``SEGMENTARIUM_DATABASE`` (an SQLAlchemy URL) moves it, to PostgreSQL for example. SQLite's WAL needs
memory shared between processes, which network file systems do not give: these are recognised and refused.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from core.config import TrainConfig
from core.errors import RunError
from core.runs.store import folder as files
from core.runs.store.folder import MetricRow, finite
from core.runs.store.schema import METRICS, MIGRATIONS, RUNS, VERSION
from core.runs.store.state import RunState, observe

FILE = "index.sqlite"
BUSY_TIMEOUT_MS = 2000
SAFE = "the runs themselves are safe in their folders"
NETWORK_FILE_SYSTEMS = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "pvfs2",
    "ncpfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "davfs",
}  # fmt: skip

_engines: dict[tuple[sa.URL, int, int, bool], tuple[int, Engine]] = {}


class DamagedIndexError(RunError):
    """The file of the index is no database any more, or is damaged inside."""


def open_index(root: Path, timeout_ms: int = BUSY_TIMEOUT_MS) -> Index:
    """The index of a checkpoints root; made or brought up to date on the way, kept open per process.

    Raises
    ------
    RunError
        If the database cannot be opened, lies on a network file system, or was made by a newer version;
        :class:`DamagedIndexError` if it is damaged.
    """
    url = database_url(root)
    try:
        return Index(root, _engine(url, timeout_ms))
    except SQLAlchemyError as error:
        raise _explain(url, error) from error


def open_answers(root: Path, *, reading: bool = False, timeout_ms: int = BUSY_TIMEOUT_MS) -> _Transaction:
    """A transaction on the same database for the answers of the quiz: on the disk when it has ended.

    Raises
    ------
    RunError
        As :func:`open_index`; and when the transaction cannot be begun or ended.
    """
    url = database_url(root)
    try:
        return _Transaction(_engine(url, timeout_ms, durable=True), reading, _explain_answers)
    except SQLAlchemyError as error:
        raise _explain_answers(url, error) from error


def database_url(root: Path) -> sa.URL:
    """``SEGMENTARIUM_DATABASE``, or SQLite in the root.

    Raises
    ------
    RunError
        If that would put SQLite on a network file system, or the variable is no URL.
    """
    given = os.environ.get("SEGMENTARIUM_DATABASE", "")
    if given:
        try:
            return sa.make_url(given)
        except SQLAlchemyError as error:
            raise RunError(
                "SEGMENTARIUM_DATABASE: expected a database's URL, such as sqlite:////home/me/runs.db, got one that "
                f"begins with {given[:8]!r}"
            ) from error
    kind = file_system_of(root)
    if kind in NETWORK_FILE_SYSTEMS:
        raise RunError(
            f"{root}: expected a local disk for the index of runs, got a network file system ({kind}), on which SQLite "
            "loses data; choose a local folder with --checkpoints, or set SEGMENTARIUM_DATABASE to a database's URL"
        )
    return sa.URL.create("sqlite", database=str(root / FILE))  # as it is: a path may hold what means something in a URL


def file_system_of(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that holds ``path``, as in ``/proc/mounts``; empty where that is not known."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    target, best, kind = path.expanduser().absolute().resolve(), -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mounted = Path(fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        if target.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), fields[2]
    return kind


class Index:
    """Rows about the runs of one checkpoints root."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self.root = root.resolve()
        self._engine = engine

    def put_run(self, folder: Path, state: RunState, config: TrainConfig, name: str) -> None:
        """Insert or replace the row of a run.

        Raises
        ------
        RunError
            If the database is locked for too long or cannot be written; so do all methods here.
        """
        with self._begin() as connection:
            self._put_run(connection, folder, state, config, name)

    def add_metrics(self, run_id: str, rows: Iterable[MetricRow], again: bool = False) -> None:
        """Append measured values in one transaction; their ids are given by the database. ``again``: somebody may have
        put them there already, from the run's folder; they are there once then."""
        values = [_metric_values(run_id, row) for row in rows]
        if not values:
            return
        with self._begin() as connection:
            if again:
                same = [METRICS.c[n] == sa.bindparam(f"its_{n}") for n in ("run", "step", "elapsed_s", "name")]
                named = [{f"its_{n}": row[n] for n in ("run", "step", "elapsed_s", "name")} for row in values]
                connection.execute(METRICS.delete().where(*same), named)
            connection.execute(METRICS.insert(), values)

    def metrics_after(self, run_id: str, after_id: int, limit: int) -> list[MetricRow]:
        """The values of a run with an id above ``after_id``, oldest first."""
        columns = [METRICS.c[n] for n in ("id", "epoch", "step", "elapsed_s", "name", "value")]
        query = sa.select(*columns).where(METRICS.c.run == run_id, METRICS.c.id > after_id)
        with self._begin(reading=True) as connection:
            found = connection.execute(query.order_by(METRICS.c.id).limit(limit)).all()
        return [_metric_row(row) for row in found]

    def keep_metrics_until(self, run_id: str, step: int) -> None:
        """Drop the values after ``step`` (all of them for step 0)."""
        superseded = METRICS.c.step > step if step else sa.true()
        with self._begin() as connection:
            connection.execute(METRICS.delete().where(METRICS.c.run == run_id, superseded))

    def rows(self) -> list[dict[str, Any]]:
        """All run rows of this root, oldest first."""
        query = sa.select(RUNS).where(RUNS.c.root == str(self.root)).order_by(RUNS.c.created_at, RUNS.c.id)
        with self._begin(reading=True) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def delete_run(self, run_id: str) -> None:
        """Remove all rows of a run."""
        with self._begin() as connection:
            connection.execute(METRICS.delete().where(METRICS.c.run == run_id))
            connection.execute(RUNS.delete().where(RUNS.c.id == run_id))

    def check(self) -> None:
        """Read all of the database.

        Raises
        ------
        DamagedIndexError
            If something in it is damaged; only SQLite's is looked at.
        """
        with self._begin(reading=True) as connection:
            if connection.dialect.name == "sqlite":
                found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
                if found != "ok":
                    raise _damaged(self._engine.url, str(found).splitlines()[0])

    def rebuild(self) -> int:
        """Make the rows of this root again from its folders, in one transaction; returns the number of runs."""
        folders = sorted(files.run_folders(self.root), key=lambda f: f.name)
        mine = sa.select(RUNS.c.id).where(RUNS.c.root == str(self.root))
        names = [f.name for f in folders]
        with self._begin() as connection:
            connection.execute(METRICS.delete().where(sa.or_(METRICS.c.run.in_(mine), METRICS.c.run.in_(names))))
            connection.execute(RUNS.delete().where(sa.or_(RUNS.c.root == str(self.root), RUNS.c.id.in_(names))))
            for folder in folders:
                config, name = files.readable_config(folder), files.read_name(folder)
                self._put_run(connection, folder, observe(folder), config, name)
                values = [_metric_values(folder.name, row) for row in files.read_metrics(folder)]
                if values:
                    connection.execute(METRICS.insert(), values)
        return len(folders)

    def _put_run(self, connection: Connection, folder: Path, state: RunState, config: TrainConfig, name: str) -> None:
        best = state.best
        connection.execute(RUNS.delete().where(RUNS.c.id == folder.name))
        connection.execute(
            RUNS.insert().values(
                id=folder.name, root=str(self.root), name=name, state=state.state, message=state.message,
                preset=config.preset, epoch=state.epoch, epochs=state.epochs, best_epoch=best.epoch if best else None,
                best_dice=best.mean_dice if best else None, best_measured_on=best.measured_on if best else None,
                created_at=state.created_at, started_at=state.started_at, ended_at=state.ended_at,
                config=json.dumps(config.to_json()),
            )
        )  # fmt: skip

    def _begin(self, reading: bool = False) -> _Transaction:
        return _Transaction(self._engine, reading, _explain)


class _Transaction:
    """A transaction whose database errors come out as one clear line."""

    def __init__(self, engine: Engine, reading: bool, explain: Callable[[sa.URL, SQLAlchemyError], RunError]) -> None:
        self._engine = engine.execution_options(reading=reading)
        self._explain = explain

    def __enter__(self) -> Connection:
        try:
            self._context = self._engine.begin()
            return self._context.__enter__()
        except SQLAlchemyError as error:
            raise self._explain(self._engine.url, error) from error

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            self._context.__exit__(kind, error, traceback)
        except SQLAlchemyError as failed:
            raise self._explain(self._engine.url, failed) from failed
        if isinstance(error, SQLAlchemyError):
            raise self._explain(self._engine.url, error) from error


def _engine(url: sa.URL, timeout_ms: int, durable: bool = False) -> Engine:
    """One engine per database and process: a forked child must not use its parent's connections, and a database file
    that was deleted or replaced must not be written to any more. ``durable``: what is committed survives a power cut
    too; the index can do without, as it can be made again."""
    key = (url, timeout_ms, os.getpid(), durable)
    known = _engines.get(key)
    if known is not None:
        if known[0] == _file_number(url):
            return known[1]
        known[1].dispose()
    engine = _new_engine(url, timeout_ms, durable)
    _engines[key] = (_file_number(url), engine)
    return engine


def _file_number(url: sa.URL) -> int:
    """What tells SQLite's file from another of the same name; 0 for other databases, or where there is none."""
    try:
        return Path(url.database or "").stat().st_ino if url.get_backend_name() == "sqlite" else 0
    except OSError:
        return 0


def _new_engine(url: sa.URL, timeout_ms: int, durable: bool) -> Engine:
    try:
        engine = sa.create_engine(url)
    except ImportError as error:
        raise RunError(f"{_place(url)}: this database needs a Python package that is not installed: {error}") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", lambda connection, _: _prepare_sqlite(connection, timeout_ms, durable))
        sa.event.listen(engine, "begin", _begin_sqlite)
    migrate(engine, MIGRATIONS)
    return engine


def migrate(engine: Engine, migrations: Sequence[Callable[[Connection], None]]) -> None:
    """Bring the schema to the newest version, in one transaction; entry n of ``migrations`` leads to version n + 1.

    Raises
    ------
    RunError
        If the database is newer than the program.
    """
    with engine.execution_options(reading=True).connect() as connection:
        exists = sa.inspect(connection).has_table(VERSION.name)
        if exists and connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() == len(migrations):
            return
    with engine.begin() as connection:
        VERSION.create(connection, checkfirst=True)
        found = connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() or 0
        if found > len(migrations):
            raise RunError(
                f"{_place(engine.url)}: expected schema version {len(migrations)} or older, got {found}; "
                "update Segmentarium, or move the file away (it holds the answers of the quiz) and run `runs rebuild`"
            )
        for step in migrations[found:]:
            step(connection)
        if found < len(migrations):
            connection.execute(VERSION.delete())
            connection.execute(VERSION.insert().values(version=len(migrations)))


def _begin_sqlite(connection: Connection) -> None:
    # Writers take the write lock at the start: one that upgrades from reading fails at once instead of waiting.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _prepare_sqlite(connection: Any, timeout_ms: int, durable: bool) -> None:
    connection.isolation_level = None  # transactions begin when we say so
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {timeout_ms}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    cursor.close()


def _metric_values(run_id: str, row: MetricRow) -> dict[str, Any]:
    return dict(
        run=run_id, epoch=row.epoch, step=row.step, elapsed_s=row.elapsed_s, name=row.name, value=finite(row.value)
    )


def _metric_row(row: sa.Row[Any]) -> MetricRow:
    value = math.nan if row.value is None else row.value
    return MetricRow(row.id, row.epoch, row.step, row.elapsed_s, row.name, value)


def _explain(url: sa.URL, error: SQLAlchemyError) -> RunError:
    if _is_damage(error):
        return _damaged(url, _reason(error))
    return RunError(f"{_place(url)}: the index of runs cannot be used: {_reason(error)}; {SAFE}")


def _damaged(url: sa.URL, reason: str) -> DamagedIndexError:
    return DamagedIndexError(
        f"{_place(url)}: the index of runs is damaged: {reason}; {SAFE}, and `python -m core runs rebuild` makes it "
        "again from them"
    )


def _explain_answers(url: sa.URL, error: SQLAlchemyError) -> RunError:
    said = f"{_place(url)}: the answers of the quiz cannot be reached: {_reason(error)}"
    if _is_damage(error):
        return DamagedIndexError(f"{said}; `python -m core runs rebuild` saves what can be read of them")
    return RunError(f"{said}; mend that and try again")


def _reason(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def _is_damage(error: SQLAlchemyError) -> bool:
    """Whether SQLite says so: no database at all, or torn inside."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF  # the rest is detail
    return code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def _place(url: sa.URL) -> str:
    """Where people find the database: SQLite's file, or the URL without its password."""
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.render_as_string(hide_password=True)
