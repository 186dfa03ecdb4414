"""SQL index of all runs of a checkpoints root, so that pages query measurements without reading files.

The rows of runs can be lost at any time: :meth:`Index.rebuild` makes them again from the run folders, and so does the
first writer in a database that does not know the root. The same database holds the quiz answers
(:mod:`core.study.answers`), which exist nowhere else. A run is identified by the id of its root
(:mod:`core.runs.store.root_id`) and its own.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.config import TrainConfig
from core.errors import RunError, UserError
from core.hosts import host_name
from core.runs.store import folder as files
from core.runs.store import metrics_file, postgres
from core.runs.store.database import BUSY_TIMEOUT_MS, Database, open_database
from core.runs.store.database_errors import damaged_index, explain_index, sqlite_damage
from core.runs.store.metrics_file import MetricRow, finite_or_none
from core.runs.store.reconciliation import reconciled_state
from core.runs.store.review_notes import ReviewNote, note_of, notes_folders, read_notes_file, row_of
from core.runs.store.root_id import read_root_id, renew_root_id, root_id
from core.runs.store.rows import CHUNK, measured_runs, remove_measurements, upsert
from core.runs.store.schema import METRICS, NOTES, ROOTS, RUNS
from core.runs.store.state import RunState


@dataclass(frozen=True)
class IndexedRun:
    """A run of another root, as the database knows it.

    Attributes
    ----------
    id, root : str. Ids of the run and of its root.
    places : tuple of (str, str). Host and path at which the root was seen.
    name : str. Display name.
    tags : tuple of str.
    state : RunState. The state that was written last.
    config : TrainConfig.
    silent_s : float. Seconds since the row was written, by the clock of the database.
    """

    id: str
    root: str
    places: tuple[tuple[str, str], ...]
    name: str
    tags: tuple[str, ...]
    state: RunState
    config: TrainConfig
    silent_s: float


def open_index(root: Path, timeout_ms: int = BUSY_TIMEOUT_MS) -> Index:
    """The index of a checkpoints root, created or migrated first; its connections are kept per process.

    Raises
    ------
    RunError
        If the database cannot be opened, or was made by a newer version; :class:`DamagedIndexError` if it is damaged.
    """
    return Index(root, open_database(root, explain_index, timeout_ms=timeout_ms))


class Index:
    """The rows of one checkpoints root.

    Every method raises :class:`RunError` if the database is locked for too long or cannot be used.
    """

    def __init__(self, root: Path, database: Database) -> None:
        self.root = root.resolve()
        self._database = database

    def put_run(self, folder: Path, state: RunState, config: TrainConfig, name: str) -> None:
        """Insert or update the row of a run."""
        with self._writing(folder.name) as (connection, root):
            self._put_run(connection, root, folder, _values_of(folder, state, config, name))

    def add_metrics(
        self, run_id: str, rows: Iterable[MetricRow], after: MetricRow | None = None, size: int | None = None
    ) -> bool:
        """Append values in one transaction; the database assigns their ids.

        Parameters
        ----------
        run_id : str. The run.
        rows : iterable of MetricRow. The values; their ids are ignored.
        after : MetricRow, optional. What the caller takes for the run's last value in the index. If it is not, because
            the index was rebuilt in between, no row is appended: see :meth:`synchronize_metrics`.
        size : int, optional. Bytes of the metrics file that ends with these values.

        Returns
        -------
        bool
            Whether the values were appended.
        """
        listed = list(rows)
        if not listed:
            return True
        with self._writing(run_id) as (connection, root):
            if after is not None:
                of_run = (METRICS.c.root == root) & (METRICS.c.run == run_id)
                last = sa.select(METRICS.c.step, METRICS.c.elapsed_s, METRICS.c.name).where(of_run)
                stored = connection.execute(last.order_by(METRICS.c.id.desc()).limit(1)).first()
                if stored is None or tuple(stored) != (after.step, after.elapsed_s, after.name):
                    return False
            _insert_metrics(connection, [_metric_values(root, run_id, row) for row in listed])
            _note_size(connection, root, run_id, size)
        return True

    def synchronize_metrics(self, run_id: str, rows: Iterable[MetricRow], size: int | None = None) -> None:
        """Make the values of a run equal to ``rows``, the content of its metrics file, in one transaction.

        The rows from the first difference on are replaced and get new ids, so that ids grow in file order and the rows
        before keep theirs.

        Parameters
        ----------
        run_id : str. The run.
        rows : iterable of MetricRow. The values; their ids are ignored.
        size : int, optional. Bytes of the metrics file before it was read.
        """
        listed = list(rows)
        columns = [METRICS.c[name] for name in ("root", "run", "epoch", "step", "elapsed_s", "name", "value")]
        with self._writing(run_id) as (connection, root):
            values = [_metric_values(root, run_id, row) for row in listed]
            of_run = (METRICS.c.root == root) & (METRICS.c.run == run_id)
            query = sa.select(METRICS.c.id, *columns).where(of_run).order_by(METRICS.c.id)
            equal, other = 0, None  # the first row that differs
            with connection.execute(query, execution_options={"yield_per": CHUNK}) as stored:
                for row in stored:
                    if equal == len(values) or tuple(row[1:]) != tuple(values[equal].values()):
                        other = row.id
                        break
                    equal += 1
            if other is not None:
                remove_measurements(connection, root, run_id, other)
            _insert_metrics(connection, values[equal:])
            _note_size(connection, root, run_id, size)

    def metrics_after(self, run_id: str, after_id: int, limit: int, root: str = "") -> list[MetricRow]:
        """At most ``limit`` values of a run with an id above ``after_id``, oldest first.

        Parameters
        ----------
        run_id : str. The run.
        after_id : int. Values with this id and lower ones are left out.
        limit : int. Largest number of values.
        root : str, optional. Id of another root that the run belongs to.
        """
        columns = [METRICS.c[name] for name in ("id", "epoch", "step", "elapsed_s", "name", "value")]
        of_run = (METRICS.c.root == (root or read_root_id(self.root))) & (METRICS.c.run == run_id)
        query = sa.select(*columns).where(of_run, METRICS.c.id > after_id)
        with self._database.begin(reading=True) as connection:
            rows = connection.execute(query.order_by(METRICS.c.id).limit(limit)).all()
        return [_metric_row(row) for row in rows]

    def metrics_size(self, run_id: str) -> int | None:
        """Bytes of the run's metrics file whose values are in the index; ``None`` where it is not known."""
        of_run = (RUNS.c.root == read_root_id(self.root)) & (RUNS.c.id == run_id)
        with self._database.begin(reading=True) as connection:
            size = connection.execute(sa.select(RUNS.c.metrics_size).where(of_run)).scalar()
        return None if size is None else int(size)

    def delete_run(self, run_id: str) -> None:
        """Remove all rows of a run."""
        with self._writing(run_id) as (connection, root):
            remove_measurements(connection, root, run_id)
            connection.execute(RUNS.delete().where(RUNS.c.root == root, RUNS.c.id == run_id))
            of_run = NOTES.c.folder.startswith(f"{run_id}/", autoescape=True)
            connection.execute(NOTES.delete().where(NOTES.c.root == root, of_run))

    def synchronize_notes(self) -> None:
        """Make the notes of reviewers equal to those in the files of this root, in one transaction."""
        with self._database.begin() as connection:
            root = self._registered(connection)
            if connection.dialect.name == "postgresql":
                postgres.lock(connection, "notes", root)
            self._synchronize_notes(connection, root)

    def notes(self) -> list[ReviewNote]:
        """The notes of reviewers on cases of this root, oldest first."""
        query = sa.select(NOTES).where(NOTES.c.root == read_root_id(self.root))
        with self._database.begin(reading=True) as connection:
            rows = connection.execute(query.order_by(NOTES.c.made_at, NOTES.c.id)).mappings().all()
        return [note_of(row) for row in rows]

    def runs_of_other_roots(self) -> list[IndexedRun]:
        """The runs of all other roots in the database, newest first."""
        own = read_root_id(self.root)
        query = sa.select(RUNS, _now(self._database.engine.dialect.name).label("now")).where(RUNS.c.root != own)
        with self._database.begin(reading=True) as connection:
            rows = connection.execute(query.order_by(RUNS.c.created_at.desc(), RUNS.c.id.desc())).mappings().all()
            seen = connection.execute(sa.select(ROOTS).order_by(ROOTS.c.host)).all()
        places: dict[str, list[tuple[str, str]]] = {}
        for place in seen:
            places.setdefault(place.id, []).append((place.host, place.path))
        return [_indexed_run(row, tuple(places.get(row["root"], ()))) for row in rows]

    def check(self) -> None:
        """Check the integrity of the whole database; only SQLite supports that.

        Raises
        ------
        DamagedIndexError
            If it is damaged.
        """
        with self._database.begin(reading=True) as connection:
            if damage := sqlite_damage(connection):
                raise damaged_index(self._database.engine.url, damage)

    def rebuild(self) -> int:
        """Make all rows of this root again from its run folders, in one transaction; returns the number of runs."""
        with self._database.begin() as connection:
            if connection.dialect.name == "postgresql":
                postgres.lift_limits(connection)
            root = self._registered(connection)
            if connection.dialect.name == "postgresql":
                postgres.lock(connection, "root", root)
            return self._rebuild(connection, root)

    @contextmanager
    def _writing(self, run_id: str) -> Iterator[tuple[Connection, str]]:
        """A transaction that changes the rows of one run while no other one does; gives the id of the root too."""
        with self._database.begin() as connection:
            root = self._registered(connection)
            if connection.dialect.name == "postgresql":
                postgres.lock(connection, "root", root, shared=True)
                postgres.lock(connection, "run", root, run_id)
            yield connection, root

    def _registered(self, connection: Connection) -> str:
        """The id of this root, whose place is in the database. A root that the database does not know yet is read from
        its folders; one that was copied together with its id gets a new id."""
        id, host = root_id(self.root), host_name()
        place = sa.select(ROOTS.c.path).where(ROOTS.c.id == id, ROOTS.c.host == host)
        if connection.execute(place).scalar() == str(self.root):
            return id
        if connection.dialect.name == "postgresql":
            postgres.lock(connection, "root", id)
        before = connection.execute(place).scalar()
        if before and before != str(self.root) and _is_copy(Path(before), self.root, id):
            id, before = renew_root_id(self.root), None
        known = connection.execute(sa.select(ROOTS.c.id).where(ROOTS.c.id == id)).first()
        upsert(connection, ROOTS, dict(id=id, host=host, path=str(self.root)))
        if known is None:
            self._rebuild(connection, id)
        return id

    def _rebuild(self, connection: Connection, root: str) -> int:
        folders = sorted(files.run_folders(self.root), key=lambda f: f.name)
        for _, run in measured_runs(connection, root):
            remove_measurements(connection, root, run)
        connection.execute(RUNS.delete().where(RUNS.c.root == root))
        for folder in folders:
            config, name = files.read_config_or_default(folder), files.read_name(folder)
            size = metrics_file.metrics_size(folder)
            values = [_metric_values(root, folder.name, row) for row in metrics_file.read_metrics(folder, size)]
            self._put_run(connection, root, folder, _values_of(folder, reconciled_state(folder), config, name))
            _insert_metrics(connection, values)
            _note_size(connection, root, folder.name, size)
        self._synchronize_notes(connection, root)
        return len(folders)

    def _synchronize_notes(self, connection: Connection, root: str) -> None:
        rows = [
            {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}
            for folder in notes_folders(self.root)
            for row in (row_of(root, folder.relative_to(self.root).as_posix(), n) for n in read_notes_file(folder))
        ]
        own = NOTES.c.root == root
        stored = [dict(row) for row in connection.execute(sa.select(NOTES).where(own)).mappings()]
        if {tuple(sorted(row.items())) for row in stored} == {tuple(sorted(row.items())) for row in rows}:
            return
        connection.execute(NOTES.delete().where(own))
        for row in rows:
            upsert(connection, NOTES, row)  # a copied run has the ids of its original

    def _put_run(self, connection: Connection, root: str, folder: Path, values: dict[str, Any]) -> None:
        now = _now(connection.dialect.name)
        upsert(connection, RUNS, {"root": root, "id": folder.name, **values, "written_at": now})


def _insert_metrics(connection: Connection, values: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(values), CHUNK):
        connection.execute(METRICS.insert(), list(values[start : start + CHUNK]))


def _note_size(connection: Connection, root: str, run_id: str, size: int | None) -> None:
    if size is not None:
        connection.execute(RUNS.update().where(RUNS.c.root == root, RUNS.c.id == run_id).values(metrics_size=size))


def _is_copy(before: Path, root: Path, id: str) -> bool:
    """Whether a root and the folder where its id was seen on this machine are two."""
    try:
        return read_root_id(before) == id and not before.samefile(root)
    except OSError:
        return False


def _now(dialect: str) -> sa.ColumnElement[float]:
    """The clock of the database, in seconds since 1970."""
    if dialect == "postgresql":
        return sa.extract("epoch", sa.func.clock_timestamp()).cast(sa.Float)
    return (sa.func.julianday("now") - 2440587.5) * 86400.0


def _values_of(folder: Path, state: RunState, config: TrainConfig, name: str) -> dict[str, Any]:
    best = state.score
    facts = {name: value for name, value in state.to_json().items() if name != "updated_at"}  # see ``written_at``
    details = {"state": facts, "tags": list(files.read_annotations(folder).tags)}
    return dict(
        name=_text(name), state=state.state, message=_text(state.message), preset=_text(config.preset),
        epoch=state.epoch, epochs=state.epochs, best_epoch=best.epoch if best else None,
        best_dice=best.mean_dice if best else None, best_measured_on=best.measured_on if best else None,
        created_at=state.created_at, started_at=state.started_at, ended_at=state.ended_at,
        config=json.dumps(config.to_json()), details=json.dumps(details),
    )  # fmt: skip


def _text(text: str) -> str:
    """A text without what databases cannot store: the character 0 (PostgreSQL), and parts of a name in another encoding
    than UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _metric_values(root: str, run_id: str, row: MetricRow) -> dict[str, Any]:
    return {
        "root": root,
        "run": run_id,
        "epoch": row.epoch,
        "step": row.step,
        "elapsed_s": row.elapsed_s,
        "name": _text(row.name),
        "value": finite_or_none(row.value),
    }


def _metric_row(row: sa.Row[Any]) -> MetricRow:
    value = math.nan if row.value is None else row.value
    return MetricRow(row.id, row.epoch, row.step, row.elapsed_s, row.name, value)


def _indexed_run(row: Any, places: tuple[tuple[str, str], ...]) -> IndexedRun:
    """A run from its row; values that this version does not understand are left out."""
    try:
        details = json.loads(row["details"])
        state, tags = RunState.from_json(details["state"]), tuple(str(tag) for tag in details["tags"])
    except (ValueError, KeyError, TypeError, RunError):
        message = "its state was written by another version of the program"
        state, tags = RunState(state="failed", message=message, created_at=row["created_at"]), ()
    silent_s = max(0.0, float(row["now"]) - row["written_at"])
    state = dataclasses.replace(state, updated_at=time.time() - silent_s)
    return IndexedRun(row["id"], row["root"], places, row["name"], tags, state, _config_of(row["config"]), silent_s)


@lru_cache(maxsize=4096)  # parsing takes milliseconds, and a page lists many runs again and again
def _config_of(text: str) -> TrainConfig:
    """A configuration; the default one where this version does not understand it."""
    try:
        return TrainConfig.from_json(json.loads(text))
    except (ValueError, UserError):
        return TrainConfig()
