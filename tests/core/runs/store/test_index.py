"""The index: made again from the folders, migrated forward, refused on network file systems."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.errors import RunError
from core.events import Ended, Metrics, Ready, Saved
from core.presets import preset
from core.runs.catalog import metrics_after, put_in_index
from core.runs.launch import create_run
from core.runs.reporting.recorder import Recorder
from core.runs.store import folder as files
from core.runs.store import index as indexes
from core.runs.store.folder import MetricRow
from core.runs.store.index import FILE, database_url, file_system_of, migrate, open_index
from core.runs.store.schema import MIGRATIONS
from core.runs.store.state import read_state


def make_run(root: Path, name: str, epochs: int) -> Path:
    """A run that has trained, recorded as in real life."""
    folder = create_run(root, preset("quick").with_values({"path": "demo"}), name, foreground=True)
    recorder = Recorder(folder, read_state(folder))
    recorder(Ready({}, ("air", "CSF"), 0, 0))
    for epoch in range(1, epochs + 1):
        recorder(Metrics(epoch, epoch * 5, epoch / 3, {"train/loss": 1 / epoch, "val/dice/CSF": math.nan}))
        recorder(Saved("best", "best.safetensors", epoch, epoch * 5, 0.25 * epoch, "whole volumes"))
    recorder(Ended("finished", epochs, epochs * 5, 9.0))
    recorder.end("finished")
    return folder


def contents(root: Path) -> tuple[list[dict[str, object]], list[tuple[object, ...]]]:
    with sqlite3.connect(root / FILE) as connection:
        metrics = connection.execute("select run, epoch, step, elapsed_s, name, value from metrics order by run, id")
        return open_index(root).rows(), metrics.fetchall()


def test_rebuilding_gives_the_same_index(tmp_path: Path) -> None:
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


def test_rebuilding_leaves_another_roots_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", f"sqlite:///{tmp_path / 'shared.sqlite'}")
    one, two = make_run(tmp_path / "one", "x", 2), make_run(tmp_path / "two", "y", 2)
    assert not (tmp_path / "one" / FILE).exists()
    assert open_index(tmp_path / "one").rebuild() == 1
    assert [row["id"] for row in open_index(tmp_path / "one").rows()] == [one.name]
    assert [row["id"] for row in open_index(tmp_path / "two").rows()] == [two.name]
    assert len(metrics_after(tmp_path / "two", two.name)) == 4


def test_ids_are_never_used_again(tmp_path: Path) -> None:
    folder, index = create_run(tmp_path, preset("quick")), open_index(tmp_path)
    row = MetricRow(0, 1, 10, 0.5, "lr", 0.1)
    index.add_metrics(folder.name, [row, row])
    old = index.metrics_after(folder.name, 0, 10)
    index.keep_metrics_until(folder.name, 0)
    index.add_metrics(folder.name, [row])
    new = index.metrics_after(folder.name, 0, 10)
    assert len(new) == 1 and new[0].id > old[-1].id
    assert index.metrics_after(folder.name, new[0].id, 10) == []


def test_only_values_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    index = open_index(tmp_path)
    index.add_metrics("run", [MetricRow(0, 1, step, 0.5, "lr", 0.1) for step in (10, 20, 30)])
    index.add_metrics("other", [MetricRow(0, 1, 99, 0.5, "lr", 0.1)])
    index.keep_metrics_until("run", 20)
    assert [r.step for r in index.metrics_after("run", 0, 10)] == [10, 20]
    assert len(index.metrics_after("other", 0, 10)) == 1


def test_sqlite_is_in_wal_mode_and_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    index = open_index(tmp_path)
    index.add_metrics("run", [MetricRow(0, 1, 10, 0.5, "lr", 0.1)])
    writer = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    assert writer.execute("pragma journal_mode").fetchone() == ("wal",)
    writer.execute("begin exclusive")
    assert len(index.metrics_after("run", 0, 10)) == 1
    with pytest.raises(RunError, match=r"index\.sqlite: the index of runs cannot be used: database is locked"):
        open_index(tmp_path, timeout_ms=50).add_metrics("run", [MetricRow(0, 1, 10, 0.5, "lr", 0.1)])
    writer.close()


def test_a_run_without_an_index_shows_what_its_folder_holds(tmp_path: Path) -> None:
    folder = create_run(tmp_path, preset("quick"))
    files.append_metrics(folder, 1, 10, 0.5, {"a": 1.0, "b": 2.0})
    for file in tmp_path.glob(f"{FILE}*"):
        file.unlink()
    (tmp_path / FILE).write_text("this is no database, and longer than the header of one would be " * 20)
    assert [(r.id, r.name) for r in metrics_after(tmp_path, folder.name)] == [(1, "a"), (2, "b")]
    assert [(r.id, r.name) for r in metrics_after(tmp_path, folder.name, after_id=1)] == [(2, "b")]
    put_in_index(tmp_path, folder)
    assert "file is not a database" in files.read_log_tail(folder, 5)


def test_migrations_run_once_each_and_in_order(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'old.sqlite'}")
    migrate(engine, MIGRATIONS)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into metrics (run, epoch, step, elapsed_s, name) values ('r', 1, 1, 0, 'lr')"
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
    with pytest.raises(RunError, match=r"expected schema version \d or older, got \d; update"):
        migrate(engine, MIGRATIONS)


def test_a_failing_migration_leaves_the_old_schema(tmp_path: Path) -> None:
    engine = indexes._engine(sa.make_url(f"sqlite:///{tmp_path / 'old.sqlite'}"), 1000)

    def half(connection: sa.Connection) -> None:
        connection.exec_driver_sql("alter table runs add column half text")
        connection.exec_driver_sql("select nonsense")

    with pytest.raises(sa.exc.SQLAlchemyError, match="nonsense"):
        migrate(engine, (*MIGRATIONS, half))
    with engine.connect() as connection:
        assert "half" not in {column["name"] for column in sa.inspect(connection).get_columns("runs")}
        assert connection.exec_driver_sql("select version from schema_version").scalar() == len(MIGRATIONS)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "lustre"])
def test_a_network_file_system_is_refused_with_the_reason(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "file_system_of", lambda path: kind)
    with pytest.raises(RunError, match=rf"network file system \({kind}\).*--checkpoints.*SEGMENTARIUM_DATABASE"):
        create_run(tmp_path, preset("quick"))
    assert files.run_folders(tmp_path) == []
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", "postgresql://somebody@db/segmentarium")
    assert database_url(tmp_path) == sa.make_url("postgresql://somebody@db/segmentarium")


def test_the_innermost_mount_decides_the_kind_of_file_system(tmp_path: Path) -> None:
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


def test_a_password_in_the_url_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", f"sqlite:////{tmp_path}/no/such/folder/x.sqlite")
    with pytest.raises(RunError, match="unable to open database file"):
        open_index(tmp_path)
    assert indexes._place(sa.make_url("postgresql://me:secret@db/x")) == "postgresql://me:***@db/x"


@pytest.mark.parametrize("name", ["runs ?mode=memory", "100%25 #1", "mit Umlaut ü & mehr"])
def test_a_root_may_have_any_name(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    open_index(root).add_metrics("run", [MetricRow(0, 1, 10, 0.5, "lr", 0.1)])
    assert (root / FILE).is_file() and list(tmp_path.iterdir()) == [root]


def test_a_database_that_cannot_be_reached_by_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, said in (
        ("no url at all", "SEGMENTARIUM_DATABASE: expected a database's URL"),
        ("nonsense://db/x", "nonsense"),
        ("postgresql+asyncpg3://me:secret@db/x", "asyncpg3"),
        ("mssql+pyodbc://me:secret@db/x", "pyodbc"),
    ):
        monkeypatch.setenv("SEGMENTARIUM_DATABASE", url)
        with pytest.raises(RunError, match=said) as caught:
            open_index(tmp_path)
        assert "secret" not in str(caught.value)
