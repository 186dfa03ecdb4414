"""SQL index of all runs of a checkpoints root, so that pages query measurements without reading files.

The rows of runs can be lost at any time: :meth:`Index.rebuild` makes them again from the run folders. The same database
holds the quiz answers (:mod:`core.study.answers`), which exist nowhere else. The default is SQLite in WAL mode in the
root; ``SEGMENTARIUM_DATABASE`` (an SQLAlchemy URL) selects another database, such as PostgreSQL. WAL needs memory
shared between processes, which network file systems do not provide: SQLite on one is refused.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from core.config import TrainConfig
from core.errors import RunError
from core.runs.store import folder as files
from core.runs.store.folder import MetricRow, finite_or_none
from core.runs.store.schema import METRICS, MIGRATIONS, RUNS, VERSION
from core.runs.store.state import RunState, reconciled_state

FILE = "index.sqlite"
BUSY_TIMEOUT_MS = 2000
RUNS_INTACT = "the runs themselves are safe in their folders"
NETWORK_FILE_SYSTEMS = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "pvfs2",
    "ncpfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "davfs",
}  # fmt: skip

_engines: dict[tuple[sa.URL, int, int, bool], tuple[int, Engine]] = {}


class DamagedIndexError(RunError):
    """The SQLite file of the index is damaged or not a database."""


def open_index(root: Path, timeout_ms: int = BUSY_TIMEOUT_MS) -> Index:
    """The index of a checkpoints root, created or migrated first; its connections are kept per process.

    Raises
    ------
    RunError
        If the database cannot be opened, is on a network file system, or was made by a newer version;
        :class:`DamagedIndexError` if it is damaged.
    """
    url = database_url(root)
    try:
        return Index(root, _engine(url, timeout_ms))
    except SQLAlchemyError as error:
        raise _explain(url, error) from error


def open_answers(root: Path, *, reading: bool = False, timeout_ms: int = BUSY_TIMEOUT_MS) -> _Transaction:
    """A durable transaction on the same database for the quiz answers, as a context manager that gives the connection.

    Raises
    ------
    RunError
        As :func:`open_index`, and if the transaction cannot begin or commit.
    """
    url = database_url(root)
    try:
        return _Transaction(_engine(url, timeout_ms, durable=True), reading, _explain_answers)
    except SQLAlchemyError as error:
        raise _explain_answers(url, error) from error


def database_url(root: Path) -> sa.URL:
    """URL of the database: ``SEGMENTARIUM_DATABASE``, else SQLite in the root.

    Raises
    ------
    RunError
        If SQLite would be on a network file system, or the variable is not a URL.
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
    return sa.URL.create("sqlite", database=str(root / FILE))  # unparsed: a path may hold characters special in a URL


def file_system_of(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Type of the file system that holds ``path``, as in ``/proc/mounts``; empty where it is unknown."""
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
    """The rows of one checkpoints root.

    Every method raises :class:`RunError` if the database is locked for too long or cannot be used.
    """

    def __init__(self, root: Path, engine: Engine) -> None:
        self.root = root.resolve()
        self._engine = engine

    def put_run(self, folder: Path, state: RunState, config: TrainConfig, name: str) -> None:
        """Insert or replace the row of a run."""
        with self._begin() as connection:
            self._put_run(connection, folder, state, config, name)

    def add_metrics(self, run_id: str, rows: Iterable[MetricRow], after: MetricRow | None = None) -> bool:
        """Append values in one transaction; the database assigns their ids.

        Parameters
        ----------
        run_id : str. The run.
        rows : iterable of MetricRow. The values; their ids are ignored.
        after : MetricRow, optional. What the caller takes for the run's last value in the index. If it is not, because
            the index was rebuilt in between, no row is appended: see :meth:`synchronize_metrics`.

        Returns
        -------
        bool
            Whether the values were appended.
        """
        values = [_metric_values(run_id, row) for row in rows]
        if not values:
            return True
        last = sa.select(METRICS.c.step, METRICS.c.elapsed_s, METRICS.c.name).where(METRICS.c.run == run_id)
        with self._begin() as connection:
            if after is not None:
                stored = connection.execute(last.order_by(METRICS.c.id.desc()).limit(1)).first()
                if stored is None or tuple(stored) != (after.step, after.elapsed_s, after.name):
                    return False
            connection.execute(METRICS.insert(), values)
        return True

    def synchronize_metrics(self, run_id: str, rows: Iterable[MetricRow]) -> None:
        """Make the values of a run equal to ``rows``, the content of its metrics file, in one transaction.

        The rows from the first difference on are replaced and get new ids, so that ids grow in file order and the rows
        before keep theirs.
        """
        values = [_metric_values(run_id, row) for row in rows]
        columns = [METRICS.c[name] for name in ("run", "epoch", "step", "elapsed_s", "name", "value")]
        query = sa.select(METRICS.c.id, *columns).where(METRICS.c.run == run_id).order_by(METRICS.c.id)
        with self._begin() as connection:
            stored = connection.execute(query).all()
            pairs = zip(stored, values, strict=False)
            equal = sum(1 for _ in takewhile(lambda pair: tuple(pair[0][1:]) == tuple(pair[1].values()), pairs))
            if equal < len(stored):
                differing = METRICS.c.id >= stored[equal].id
                connection.execute(METRICS.delete().where(METRICS.c.run == run_id, differing))
            if equal < len(values):
                connection.execute(METRICS.insert(), values[equal:])

    def metrics_after(self, run_id: str, after_id: int, limit: int) -> list[MetricRow]:
        """At most ``limit`` values of a run with an id above ``after_id``, oldest first."""
        columns = [METRICS.c[name] for name in ("id", "epoch", "step", "elapsed_s", "name", "value")]
        query = sa.select(*columns).where(METRICS.c.run == run_id, METRICS.c.id > after_id)
        with self._begin(reading=True) as connection:
            rows = connection.execute(query.order_by(METRICS.c.id).limit(limit)).all()
        return [_metric_row(row) for row in rows]

    def delete_run(self, run_id: str) -> None:
        """Remove all rows of a run."""
        with self._begin() as connection:
            connection.execute(METRICS.delete().where(METRICS.c.run == run_id))
            connection.execute(RUNS.delete().where(RUNS.c.id == run_id))

    def check(self) -> None:
        """Check the integrity of the whole database; only SQLite supports that.

        Raises
        ------
        DamagedIndexError
            If it is damaged.
        """
        with self._begin(reading=True) as connection:
            if connection.dialect.name == "sqlite":
                found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
                if found != "ok":
                    raise _damaged(self._engine.url, str(found).splitlines()[0])

    def rebuild(self) -> int:
        """Make all rows of this root again from its run folders, in one transaction; returns the number of runs."""
        folders = sorted(files.run_folders(self.root), key=lambda f: f.name)
        of_root = sa.select(RUNS.c.id).where(RUNS.c.root == str(self.root))
        ids = [folder.name for folder in folders]
        with self._begin() as connection:
            connection.execute(METRICS.delete().where(sa.or_(METRICS.c.run.in_(of_root), METRICS.c.run.in_(ids))))
            connection.execute(RUNS.delete().where(sa.or_(RUNS.c.root == str(self.root), RUNS.c.id.in_(ids))))
            for folder in folders:
                config, name = files.read_config_or_default(folder), files.read_name(folder)
                self._put_run(connection, folder, reconciled_state(folder), config, name)
                values = [_metric_values(folder.name, row) for row in files.read_metrics(folder)]
                if values:
                    connection.execute(METRICS.insert(), values)
        return len(folders)

    def _put_run(self, connection: Connection, folder: Path, state: RunState, config: TrainConfig, name: str) -> None:
        best = state.score
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
    """A transaction that raises database errors as :class:`RunError`."""

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
    """The SQLAlchemy engine of a database, kept per process: a forked child must not use its parent's connections, and
    a file that was deleted or replaced must not be written to any more. ``durable``: commits survive a power cut; the
    index does not need that, as it can be rebuilt."""
    key = (url, timeout_ms, os.getpid(), durable)
    cached = _engines.get(key)
    if cached is not None:
        if cached[0] == _inode(url):
            return cached[1]
        cached[1].dispose()
    engine = _new_engine(url, timeout_ms, durable)
    _engines[key] = (_inode(url), engine)
    return engine


def _inode(url: sa.URL) -> int:
    """Inode of SQLite's file; 0 for other databases, or where there is no file."""
    try:
        return Path(url.database or "").stat().st_ino if url.get_backend_name() == "sqlite" else 0
    except OSError:
        return 0


def _new_engine(url: sa.URL, timeout_ms: int, durable: bool) -> Engine:
    try:
        engine = sa.create_engine(url)
    except ImportError as error:
        raise RunError(
            f"{_display_name(url)}: this database needs a Python package that is not installed: {error}"
        ) from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", lambda connection, _: _prepare_sqlite(connection, timeout_ms, durable))
        sa.event.listen(engine, "begin", _begin_sqlite)
    migrate(engine, MIGRATIONS)
    return engine


def migrate(engine: Engine, migrations: Sequence[Callable[[Connection], None]]) -> None:
    """Bring the schema to the newest version in one transaction.

    Parameters
    ----------
    engine : sqlalchemy.Engine. The database.
    migrations : sequence of callable. Entry n migrates version n to version n + 1.

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
        version = connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() or 0
        if version > len(migrations):
            raise RunError(
                f"{_display_name(engine.url)}: expected schema version {len(migrations)} or older, got {version}; "
                "update Segmentarium, or move the file away (it holds the answers of the quiz) and run `runs rebuild`"
            )
        for migration in migrations[version:]:
            migration(connection)
        if version < len(migrations):
            connection.execute(VERSION.delete())
            connection.execute(VERSION.insert().values(version=len(migrations)))


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


def _metric_values(run_id: str, row: MetricRow) -> dict[str, Any]:
    return {
        "run": run_id,
        "epoch": row.epoch,
        "step": row.step,
        "elapsed_s": row.elapsed_s,
        "name": row.name,
        "value": finite_or_none(row.value),
    }


def _metric_row(row: sa.Row[Any]) -> MetricRow:
    value = math.nan if row.value is None else row.value
    return MetricRow(row.id, row.epoch, row.step, row.elapsed_s, row.name, value)


def _explain(url: sa.URL, error: SQLAlchemyError) -> RunError:
    if _is_damage(error):
        return _damaged(url, _reason(error))
    return RunError(f"{_display_name(url)}: the index of runs cannot be used: {_reason(error)}; {RUNS_INTACT}")


def _damaged(url: sa.URL, reason: str) -> DamagedIndexError:
    return DamagedIndexError(
        f"{_display_name(url)}: the index of runs is damaged: {reason}; {RUNS_INTACT}, and "
        "`python -m core runs rebuild` makes it again from them"
    )


def _explain_answers(url: sa.URL, error: SQLAlchemyError) -> RunError:
    problem = f"{_display_name(url)}: the quiz answers cannot be accessed: {_reason(error)}"
    if _is_damage(error):
        return DamagedIndexError(f"{problem}; `python -m core runs rebuild` recovers those that are readable")
    return RunError(f"{problem}; repair the database and try again")


def _reason(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def _is_damage(error: SQLAlchemyError) -> bool:
    """Whether SQLite reports a damaged file, or one that is not a database."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF  # without the extended code
    return code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def _display_name(url: sa.URL) -> str:
    """SQLite's file, or the URL without its password."""
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.render_as_string(hide_password=True)
