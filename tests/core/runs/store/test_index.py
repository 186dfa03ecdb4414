"""The index: rebuilt from the folders, synchronised with metrics files, migrated, refused on network file systems."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.errors import RunError
from core.events import Ended, Metrics, Ready, Saved
from core.presets import preset
from core.runs.catalog import update_index
from core.runs.launch import create_run
from core.runs.measurements import FOLDER_IDS, metrics_after
from core.runs.reporting.recorder import Recorder
from core.runs.store import database, metrics_file, rows
from core.runs.store import folder as files
from core.runs.store.database import FILE, database_url
from core.runs.store.database_errors import display_name
from core.runs.store.file_systems import file_system_of
from core.runs.store.index import open_index
from core.runs.store.metrics_file import MetricRow
from core.runs.store.migration import migrate
from core.runs.store.schema import MIGRATIONS
from core.runs.store.state import read_state
from tests.support.index_rows import metric_rows, run_rows


def make_run(root: Path, name: str, epochs: int) -> Path:
    """A finished run, recorded from events."""
    folder = create_run(root, preset("quick").with_values({"path": "demo"}), name, foreground=True)
    recorder = Recorder(folder, read_state(folder))
    recorder(Ready({}, ("air", "CSF"), 0, 0))
    for epoch in range(1, epochs + 1):
        recorder(Metrics(epoch, epoch * 5, epoch / 3, {"train/loss": 1 / epoch, "val/dice/CSF": math.nan}))
        recorder(Saved("best", "best.safetensors", epoch, epoch * 5, 0.25 * epoch, "whole volumes"))
    recorder(Ended("finished", epochs, epochs * 5, 9.0))
    recorder.end("finished")
    return folder


def contents(root: Path) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    return run_rows(root), metric_rows(root)


def test_rebuilt_index_is_the_same(tmp_path: Path) -> None:
    for name, epochs in (("b", 3), ("a", 2), ("waiting", 0)):
        make_run(tmp_path, name, epochs)
    before = contents(tmp_path)
    assert [row["name"] for row in before[0]] == ["b", "a", "waiting"]
    assert len(before[1]) == 2 * 5
    assert open_index(tmp_path).rebuild() == 3
    assert contents(tmp_path) == before
    for file in tmp_path.glob(f"{FILE}*"):
        file.unlink()
    assert open_index(tmp_path).rebuild() == 3
    assert contents(tmp_path) == before


def test_rebuild_leaves_rows_of_another_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", f"sqlite:///{tmp_path / 'shared.sqlite'}")
    one, two = make_run(tmp_path / "one", "x", 2), make_run(tmp_path / "two", "y", 2)
    assert not (tmp_path / "one" / FILE).exists()
    assert open_index(tmp_path / "one").rebuild() == 1
    assert [row["id"] for row in run_rows(tmp_path / "one")] == [one.name]
    assert [row["id"] for row in run_rows(tmp_path / "two")] == [two.name]
    assert len(metrics_after(tmp_path / "two", two.name)) == 4


def row(step: int, name: str = "lr", value: float = 0.1) -> MetricRow:
    return MetricRow(0, 1, step, 0.5, name, value)


def test_ids_are_not_reused(tmp_path: Path) -> None:
    index = open_index(tmp_path)
    index.add_metrics("run", [row(10), row(20)])
    old = index.metrics_after("run", 0, 10)
    index.synchronize_metrics("run", [])
    index.add_metrics("run", [row(10)])
    new = index.metrics_after("run", 0, 10)
    assert len(new) == 1 and new[0].id > old[-1].id
    assert index.metrics_after("run", new[0].id, 10) == []


@pytest.mark.parametrize(
    ("stored", "rows", "kept"),
    [
        ([10, 20, 30], [10, 20], 2),
        ([10, 20], [10, 20, 30], 2),
        ([10, 20, 20], [10, 20], 2),
        ([10, 15, 20], [10, 20, 30], 1),
        ([], [10], 0),
        ([10], [10], 1),
    ],
)
def test_synchronized_values_equal_the_rows_and_ids_grow(
    tmp_path: Path, stored: list[int], rows: list[int], kept: int
) -> None:
    index = open_index(tmp_path)
    index.add_metrics("run", [row(step, value=math.nan) for step in stored])
    index.add_metrics("other", [row(99)])
    before = index.metrics_after("run", 0, 10)
    index.synchronize_metrics("run", [row(step, value=math.nan) for step in rows])
    after = index.metrics_after("run", 0, 10)
    assert [r.step for r in after] == rows and [r.id for r in after] == sorted(r.id for r in after)
    assert [r.id for r in after[:kept]] == [r.id for r in before[:kept]], "unchanged rows keep their ids"
    assert all(r.id > before[-1].id for r in after[kept:] if before)
    assert len(index.metrics_after("other", 0, 10)) == 1


def test_values_are_added_only_after_the_expected_one(tmp_path: Path) -> None:
    index = open_index(tmp_path)
    assert index.add_metrics("run", [row(10), row(20)])
    assert not index.add_metrics("run", [row(30)], after=row(10)) and not index.add_metrics("new", [row(1)], row(0))
    assert index.add_metrics("run", [row(30)], after=row(20)) and index.add_metrics("run", [], after=row(10))
    assert [r.step for r in index.metrics_after("run", 0, 10)] == [10, 20, 30]


def test_sqlite_is_in_wal_mode_so_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    index = open_index(tmp_path)
    index.add_metrics("run", [row(10)])
    writer = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    assert writer.execute("pragma journal_mode").fetchone() == ("wal",)
    writer.execute("begin exclusive")
    assert len(index.metrics_after("run", 0, 10)) == 1
    with pytest.raises(RunError, match=r"index\.sqlite.*database is locked"):
        open_index(tmp_path, timeout_ms=50).add_metrics("run", [row(10)])
    writer.close()


def test_metrics_come_from_the_folder_if_the_index_is_unusable(tmp_path: Path) -> None:
    folder = create_run(tmp_path, preset("quick"))
    metrics_file.append_metrics(folder, 1, 10, 0.5, {"a": 1.0, "b": 2.0})
    for file in tmp_path.glob(f"{FILE}*"):
        file.unlink()
    (tmp_path / FILE).write_text("this is no database, and longer than the header of one would be " * 20)
    first, second = metrics_after(tmp_path, folder.name)
    assert [(r.id - FOLDER_IDS, r.name) for r in (first, second)] == [(1, "a"), (2, "b")]
    assert metrics_after(tmp_path, folder.name, after_id=first.id) == [second]
    assert metrics_after(tmp_path, folder.name, after_id=7) == [first, second], "the page's last value is of the index"
    update_index(tmp_path, folder)
    assert "file is not a database" in files.read_log_tail(folder, 5)


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'old.sqlite'}")
    migrate(engine, MIGRATIONS)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into metrics (root, run, epoch, step, elapsed_s, name) values ('x', 'r', 1, 1, 0, 'lr')"
        )

    def version_2(connection: sa.Connection) -> None:
        connection.exec_driver_sql("alter table metrics add column unit text default 'none'")

    def version_3(connection: sa.Connection) -> None:
        connection.exec_driver_sql("update metrics set unit = unit || '!'")

    for _ in range(2):
        migrate(engine, (*MIGRATIONS, version_2, version_3))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select unit from metrics").scalar() == "none!"
        assert connection.exec_driver_sql("select version from schema_version").scalar() == len(MIGRATIONS) + 2
    with pytest.raises(RunError, match=r"schema version \d or older, got \d"):
        migrate(engine, MIGRATIONS)


def test_failed_migration_leaves_the_old_schema(tmp_path: Path) -> None:
    engine = database._engine(sa.make_url(f"sqlite:///{tmp_path / 'old.sqlite'}"), 1000)

    def half(connection: sa.Connection) -> None:
        connection.exec_driver_sql("alter table runs add column half text")
        connection.exec_driver_sql("select nonsense")

    with pytest.raises(sa.exc.SQLAlchemyError, match="nonsense"):
        migrate(engine, (*MIGRATIONS, half))
    with engine.connect() as connection:
        assert "half" not in {column["name"] for column in sa.inspect(connection).get_columns("runs")}
        assert connection.exec_driver_sql("select version from schema_version").scalar() == len(MIGRATIONS)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "lustre", "fuse.unheard-of"])
def test_index_of_a_root_on_a_network_file_system_lies_on_this_machine(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, local = tmp_path / "runs", tmp_path / "local"
    monkeypatch.setattr(database, "file_system_of", lambda path: kind if path.is_relative_to(root) else "ext4")
    monkeypatch.setenv("XDG_CACHE_HOME", str(local))
    folder = make_run(root, "net", 2)
    (index,) = (local / "segmentarium" / "indexes").glob("*.sqlite")
    assert not list(root.glob("*.sqlite*"))
    assert [row["id"] for row in run_rows(root)] == [folder.name] and len(metrics_after(root, folder.name)) == 4
    for file in index.parent.iterdir():
        file.unlink()
    update_index(root, folder)  # as on another machine, whose index is empty
    assert [row["id"] for row in run_rows(root)] == [folder.name] and len(metrics_after(root, folder.name)) == 4
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", str(tmp_path / "chosen"))
    assert Path(str(database_url(root).database)).parent == tmp_path / "chosen"
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", "root")
    assert database_url(root).database == str(root / FILE)
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", "postgresql://somebody@db/segmentarium")
    assert database_url(root) == sa.make_url("postgresql+psycopg://somebody@db/segmentarium")


def test_sqlite_is_never_put_on_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "file_system_of", lambda path: "nfs4")
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", f"sqlite:///{tmp_path / 'shared.sqlite'}")
    with pytest.raises(RunError, match=r"network file system \(nfs4\).*loses data"):
        create_run(tmp_path / "one", preset("quick"))
    monkeypatch.delenv("SEGMENTARIUM_DATABASE")
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", str(tmp_path / "also on nfs"))
    with pytest.raises(RunError, match=r"network file system \(nfs4\).*SEGMENTARIUM_INDEX_FOLDER.*PostgreSQL"):
        create_run(tmp_path / "one", preset("quick"))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "apfs", "fuseblk", "fuse.mergerfs", ""])
def test_index_of_a_root_on_a_local_disk_lies_in_the_root(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "file_system_of", lambda path: kind)
    assert database_url(tmp_path).database == str(tmp_path / FILE)


def test_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    shared = tmp_path.resolve() / "with space"
    shared.mkdir()
    escaped = str(shared).replace(" ", "\\040")
    mounts.write_text(
        f"/dev/sda / ext4 rw 0 0\nserver:/x {escaped} nfs4 rw 0 0\n"
        f"//s/y {escaped}/deep cifs rw 0 0\nproc /proc proc rw 0 0\n"
    )
    assert file_system_of(tmp_path, mounts) == "ext4"
    assert file_system_of(shared / "runs", mounts) == "nfs4"
    assert file_system_of(shared / "deep" / "er", mounts) == "cifs"
    assert file_system_of(tmp_path, tmp_path / "no such file") == ""


def test_password_in_the_url_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", f"sqlite:////{tmp_path}/no/such/folder/x.sqlite")
    with pytest.raises(RunError, match="unable to open database file"):
        open_index(tmp_path)
    assert display_name(sa.make_url("postgresql://me:secret@db/x")) == "postgresql://me:***@db/x"


@pytest.mark.parametrize("name", ["runs ?mode=memory", "100%25 #1", "mit Umlaut ü & mehr"])
def test_root_may_have_any_name(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    open_index(root).add_metrics("run", [row(10)])
    assert (root / FILE).is_file() and list(tmp_path.iterdir()) == [root]


def test_unusable_database_url_is_an_error_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url, fact in (
        ("no url at all", "SEGMENTARIUM_DATABASE.*URL"),
        ("nonsense://db/x", "nonsense"),
        ("postgresql+asyncpg3://me:secret@db/x", "asyncpg3"),
        ("mssql+pyodbc://me:secret@db/x", "expected an SQLite or a PostgreSQL database"),
    ):
        monkeypatch.setenv("SEGMENTARIUM_DATABASE", url)
        with pytest.raises(RunError, match=fact) as caught:
            open_index(tmp_path)
        assert "secret" not in str(caught.value)


def test_rows_of_a_run_are_removed_in_parts_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server limits the time of a statement."""
    monkeypatch.setattr(rows, "REMOVED", 3)
    folders = [make_run(tmp_path, name, 4) for name in ("a", "b", "c")]
    before, index, removed = metric_rows(tmp_path), open_index(tmp_path), list[int]()

    def count(connection: sa.Connection, cursor: Any, statement: str, *_: object) -> None:
        if statement.upper().startswith("DELETE FROM METRICS"):
            removed.append(cursor.rowcount)

    engine = index._database.engine
    sa.event.listen(engine, "after_cursor_execute", count)
    try:
        index.rebuild()
        assert sum(removed) == len(before) == 24 and max(removed) == 3
        assert metric_rows(tmp_path) == before
        listed = list(metrics_file.read_metrics(folders[1]))
        index.synchronize_metrics(folders[1].name, listed[:1])
        index.delete_run(folders[0].name)
    finally:
        sa.event.remove(engine, "after_cursor_execute", count)
    assert sum(removed) == 24 + 7 + 8 and max(removed) == 3
    expected = [row for row in before if row["run"] == folders[2].name]
    expected += [row for row in before if row["run"] == folders[1].name][:1]
    assert sorted(map(repr, metric_rows(tmp_path))) == sorted(map(repr, expected))
    with engine.begin() as connection:
        assert [run for _, run in rows.measured_runs(connection)] == sorted(f.name for f in folders[1:])
        assert list(rows.measured_runs(connection, "no such root")) == []
