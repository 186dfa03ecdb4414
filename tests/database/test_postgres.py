"""PostgreSQL as the database: many programs at once, several roots, and faults of the server."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from core import cli, runs
from core.errors import RunError
from core.events import Ended, Metrics, Progress, Ready
from core.presets import preset
from core.runs.catalog import update_index
from core.runs.launch import create_run
from core.runs.measurements import FOLDER_IDS
from core.runs.other_roots import find_other_run, list_other_runs, other_metrics, unreachable_reason
from core.runs.reporting.recorder import Recorder
from core.runs.store import availability, database, metrics_file
from core.runs.store import folder as files
from core.runs.store.availability import unavailable_reason
from core.runs.store.index import open_index
from core.runs.store.metrics_file import MetricRow
from core.runs.store.migration import migrate
from core.runs.store.postgres import STATEMENT_TIMEOUT_MS
from core.runs.store.root_id import read_root_id
from core.runs.store.schema import RUNS
from core.runs.store.state import RunState, read_state, write_state
from core.runs.store.transfer import copy_database
from core.study.answers import read_answers, save_answer
from tests.core.runs.store.test_index import make_run
from tests.core.study.test_answers import answer
from tests.support.index_rows import close_connections, metric_rows, run_rows
from tests.support.postgres import PostgresServer, wait_for_server
from tests.support.watching import wait_until

pytestmark = [pytest.mark.long, pytest.mark.cluster]


def at_once(count: int, work: Callable[[int], None]) -> list[str]:
    """Run work in threads that begin together; returns their errors."""
    barrier, errors = threading.Barrier(count), list[str]()

    def begin(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except Exception as error:  # noqa: BLE001 - reported by the test
            errors.append(repr(error))

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_eight_first_openings_at_once_make_the_tables_once(tmp_path: Path) -> None:
    versions = []

    def open_first(_: int) -> None:
        engine = database.new_engine(database.database_url(tmp_path))
        versions.append(migrate(engine))
        engine.dispose()

    assert at_once(8, open_first) == []
    newest = versions[0][1]
    assert sorted(versions) == [(0, newest)] + 7 * [(newest, newest)]


def test_four_writers_of_one_run_and_a_rebuild_at_once_lose_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "one", 3)
    state, config = read_state(folder), files.read_config(folder)
    before = metric_rows(tmp_path)

    def write(number: int) -> None:
        for epoch in range(25):
            if number == 0 and epoch % 5 == 0:
                open_index(tmp_path).rebuild()
            else:
                open_index(tmp_path).put_run(
                    folder, dataclasses.replace(state, epoch=epoch), config, f"writer {number}"
                )

    assert at_once(4, write) == []
    assert len(run_rows(tmp_path)) == 1 and metric_rows(tmp_path) == before


def test_first_openings_of_a_root_by_several_programs_read_its_folders_once(tmp_path: Path, url: str) -> None:
    folders = [make_run(tmp_path, f"run {number}", 2) for number in range(2)]
    expected = run_rows(tmp_path)
    with sa.create_engine(database.database_url(tmp_path)).begin() as connection:
        for table in ("roots", "runs", "metrics"):
            connection.execute(sa.text(f"delete from {table}"))
    assert at_once(4, lambda n: update_index(tmp_path, folders[n % 2])) == []
    assert run_rows(tmp_path) == expected and len(metric_rows(tmp_path)) == 2 * 4


def test_machines_with_the_same_path_share_a_database(tmp_path: Path) -> None:
    """Two machines, played by a root that is moved away and another one at its place."""
    first = make_run(tmp_path / "runs", "first", 2)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    second = make_run(tmp_path / "runs", "second", 3)
    assert read_root_id(tmp_path / "runs") != read_root_id(tmp_path / "elsewhere")
    assert open_index(tmp_path / "runs").rebuild() == 1
    assert [row["id"] for row in run_rows(tmp_path / "runs")] == [second.name]
    assert [row["id"] for row in run_rows(tmp_path / "elsewhere")] == [first.name]
    assert len(metric_rows(tmp_path / "runs")) == 2 * 2 + 2 * 3
    open_index(tmp_path / "runs").delete_run(first.name)
    assert [row["id"] for row in run_rows(tmp_path / "elsewhere")] == [first.name], "a run of another root stays"


def test_runs_of_the_same_id_in_two_roots_are_two(tmp_path: Path) -> None:
    config = preset("quick").with_values({"path": "demo"})
    for root, name, loss in (("a", "one", 0.5), ("b", "other", 0.25)):
        folder = create_run(tmp_path / root, config, name, run_id="same")
        metrics_file.append_metrics(folder, 1, 1, 0.5, {"train/loss": loss})
        open_index(tmp_path / root).rebuild()
    assert [row["name"] for root in ("a", "b") for row in run_rows(tmp_path / root)] == ["one", "other"]
    assert [row.value for root in ("a", "b") for row in runs.metrics_after(tmp_path / root, "same")] == [0.5, 0.25]


def test_copied_root_gets_an_id_of_its_own(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "original", "x", 2)
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    runs.rename(tmp_path / "copy", folder.name, "the copy")
    assert read_root_id(tmp_path / "copy") != read_root_id(tmp_path / "original")
    assert [row["name"] for row in run_rows(tmp_path / "original")] == ["x"]
    assert [row["name"] for row in run_rows(tmp_path / "copy")] == ["the copy"]
    assert len(metric_rows(tmp_path / "copy")) == 8


def test_moved_root_keeps_its_id(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "here", "x", 2)
    id = read_root_id(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    runs.rename(tmp_path / "there", folder.name, "moved")
    assert read_root_id(tmp_path / "there") == id
    assert [row["name"] for row in run_rows(tmp_path / "there")] == ["moved"]


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def training(tmp_path: Path) -> tuple[Path, Recorder]:
    """The folder and recorder of a run that trains."""
    folder = create_run(tmp_path, preset("quick").with_values({"path": "demo"}), "net", foreground=True)
    recorder = Recorder(folder, read_state(folder))
    recorder(Ready({"device": "cpu"}, ("air", "CSF"), 0, 0))
    recorder(Metrics(1, 1, 0.1, {"train/loss": 1.0}))
    assert recorder.index.drain()
    return folder, recorder


def unavailable(root: Path) -> str:
    """Why the database gives no answer now; empty where it answers."""
    return unavailable_reason(database.database_url(root))


def longest_call(recorder: Recorder, first: int, last: int) -> float:
    """Record steps; returns the longest time that one of them took, in seconds."""
    longest = 0.0
    for step in range(first, last):
        started = time.monotonic()
        recorder(Progress(1, 5, step, 100, 0.5, 20.0, step / 10, 60.0))
        recorder(Metrics(1, step, step / 10, {"train/loss": 1 / step}))
        longest = max(longest, time.monotonic() - started)
    return longest


@pytest.mark.fault(
    40, "database server frozen: training goes on at its speed, pages read the folders, the index catches up"
)
def test_frozen_server(
    training: tuple[Path, Recorder], server: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, recorder = training
    root = folder.parent
    steps = [row.step for row in runs.metrics_after(root, folder.name)]
    assert steps == [1]
    server.freeze()
    assert longest_call(recorder, 2, 40) < 1.0, "training does not wait for the database"
    started = time.monotonic()
    rows = runs.metrics_after(root, folder.name, after_id=1)
    assert [row.step for row in rows] == list(range(1, 40)) and rows[0].id > FOLDER_IDS, "the page reads the folder"
    assert time.monotonic() - started < 15
    started = time.monotonic()
    assert len(runs.metrics_after(root, folder.name)) == 39 and "gives no answer" in unavailable(root)
    assert [run.id for run in runs.list_runs(root)] == [folder.name]
    assert time.monotonic() - started < 1.0, "a second access does not wait"
    with pytest.raises(RunError, match=r"gives no answer|cannot be accessed"):
        save_answer(root, answer())
    assert cli.main(["runs", "list", "--checkpoints", str(root), "--json"]) == 0
    recorder(Ended("finished", 1, 40, 4.0))
    started = time.monotonic()
    recorder.end("finished")
    assert time.monotonic() - started < 15 and read_state(folder).state == "finished"
    assert "training continues" in files.read_log_tail(folder, 50)
    server.thaw()
    wait_until(lambda: not unavailable(root))
    update_index(root, folder)
    assert open_index(root).rebuild() == 1
    caught_up = runs.metrics_after(root, folder.name, rows[-1].id)
    assert [row.step for row in caught_up] == list(range(1, 40)) and caught_up[-1].id < FOLDER_IDS
    save_answer(root, answer())


@pytest.mark.fault(41, "database server killed and started again: the next write and page use it")
def test_restarted_server(training: tuple[Path, Recorder], server: PostgresServer) -> None:
    folder, recorder = training
    server.stop()
    assert longest_call(recorder, 2, 10) < 1.0
    assert [row.step for row in runs.metrics_after(folder.parent, folder.name)] == list(range(1, 10))
    server.start()
    wait_for_server(server)
    wait_until(lambda: not unavailable(folder.parent))
    recorder(Metrics(1, 10, 1.0, {"train/loss": 0.1}))
    recorder.end("finished")
    assert [row.step for row in open_index(folder.parent).metrics_after(folder.name, 0, 99)] == list(range(1, 11))
    assert [row["state"] for row in run_rows(folder.parent)] == ["finished"]


@pytest.mark.fault(42, "database read-only: training goes on, its curve is read from the folder, the refusal is named")
def test_read_only_server(training: tuple[Path, Recorder], server: PostgresServer, url: str) -> None:
    folder, recorder = training
    save_answer(folder.parent, answer())
    name = url.rpartition("/")[2]
    server.execute(f"alter database {name} set default_transaction_read_only = on")
    server.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
    assert longest_call(recorder, 2, 5) < 1.0
    assert recorder.index.drain()
    assert "accepts no changes" in files.read_log_tail(folder, 20)
    assert read_answers(folder.parent) == [answer()]
    with pytest.raises(RunError, match="accepts no changes"):
        save_answer(folder.parent, answer(number=2))
    recorder.end("finished")
    old = time.time() - 3600
    os.utime(folder / metrics_file.METRICS, (old, old))  # the index is behind, and not only for a moment
    assert [row.step for row in runs.metrics_after(folder.parent, folder.name)] == [1, 2, 3, 4]
    assert cli.main(["database", "check", "--checkpoints", str(folder.parent)]) == 1
    server.execute(
        f"set default_transaction_read_only = off; alter database {name} reset default_transaction_read_only"
    )
    close_connections()
    assert open_index(folder.parent).rebuild() == 1
    assert [row.step for row in runs.metrics_after(folder.parent, folder.name)] == [1, 2, 3, 4]


@pytest.mark.fault(43, "database full: training goes on and ends; the log names it")
def test_full_server(training: tuple[Path, Recorder], server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on a small disk, which a table fills."""
    folder, recorder = training
    with server.small_disk(24) as url:
        monkeypatch.setenv("SEGMENTARIUM_DATABASE", url)
        update_index(folder.parent, folder)
        server.fill(url)
        assert longest_call(recorder, 2, 300) < 1.0
        recorder.index.drain()
        recorder.end("finished")
    assert read_state(folder).state == "finished"
    log = files.read_log_tail(folder, 50)
    assert "disk of the server is full" in log and "training continues" in log
    monkeypatch.setattr(database, "_engines", {})


# --- runs of other roots ----------------------------------------------------------------------------------------------


def test_runs_of_other_roots_are_listed_with_their_place(tmp_path: Path) -> None:
    own = make_run(tmp_path / "own", "mine", 1)
    near = make_run(tmp_path / "near", "reachable", 2)
    far = make_run(tmp_path / "far", "not reachable", 3)
    shutil.rmtree(tmp_path / "far")
    others = {run.summary.name: run for run in list_other_runs(tmp_path / "own").runs}
    assert set(others) == {"reachable", "not reachable"} and own.name not in {run.summary.id for run in others.values()}
    reachable, lost = others["reachable"], others["not reachable"]
    assert reachable.root == tmp_path / "near"
    assert reachable.place.endswith(f":{tmp_path / 'near'}") and reachable.summary.folder == near
    assert lost.root is None and lost.summary.state.best is not None and lost.summary.state.best.epoch == 3
    assert re.search(rf"{far.name}.*far, which cannot be read on .*mount that folder", unreachable_reason(lost))
    assert [row.epoch for row in other_metrics(tmp_path / "own", lost) if row.name == "train/loss"] == [1, 2, 3]
    assert find_other_run(tmp_path / "own", lost.key).summary.id == far.name
    with pytest.raises(RunError, match="found none with the ids"):
        find_other_run(tmp_path / "own", "nothing:such")


def test_run_of_a_silent_machine_is_not_called_running(tmp_path: Path, url: str) -> None:
    folder = create_run(tmp_path / "far", preset("quick"), "net", foreground=True)
    write_state(folder, dataclasses.replace(read_state(folder), state="running"))
    update_index(tmp_path / "far", folder)
    shutil.rmtree(tmp_path / "far")

    def state() -> RunState:
        (run,) = list_other_runs(tmp_path / "own").runs
        return run.summary.state

    assert state().state == "running"
    with sa.create_engine(database.database_url(tmp_path)).begin() as connection:
        connection.execute(RUNS.update().values(written_at=RUNS.c.written_at - 600))
    assert state().state == "unreachable" and "10 min ago; it was running then" in state().message


# --- the command ------------------------------------------------------------------------------------------------------


def test_copy_to_sqlite_and_back_loses_nothing(
    tmp_path: Path, server: PostgresServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, files_url = tmp_path / "runs", f"sqlite:///{tmp_path / 'copy.sqlite'}"
    for name, epochs in (("a", 3), ("b", 0), ("c", 40)):
        make_run(root, name, epochs)
    for number in (1, 2):
        save_answer(root, answer(number=number, why="Ünïcode ≠ \U0001f9e0", dice=0.1 + number / 3))
    before = run_rows(root), metric_rows(root), read_answers(root)
    chosen = ["--checkpoints", str(root)]
    assert cli.main(["database", "copy", files_url, *chosen]) == 0
    shown = capsys.readouterr().out
    assert "every row compared equal" in shown and "quiz_answers  2" in shown
    back = server.new_database()
    assert cli.main(["database", "copy", back, "--from", files_url, "--json", *chosen]) == 0
    for url in (files_url, back):
        monkeypatch.setenv("SEGMENTARIUM_DATABASE", url)
        assert (run_rows(root), metric_rows(root), read_answers(root)) == before
        assert cli.main(["database", "check", *chosen]) == 0
    assert cli.main(["database", "copy", back, "--from", files_url, *chosen]) == 0, "a second time changes nothing"
    assert (run_rows(root), metric_rows(root), read_answers(root)) == before
    assert cli.main(["database", "copy", back, "--from", back, *chosen]) == 1
    assert cli.main(["database", "copy", "postgresql://nobody@127.0.0.1:1/x", *chosen]) == 1


def test_backup_in_one_database_is_restored_in_another(
    tmp_path: Path, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, file = tmp_path / "runs", tmp_path / "backup.tar"
    make_run(root, "a", 3)
    save_answer(root, answer())
    before = run_rows(root), metric_rows(root), read_answers(root)
    assert cli.main(["database", "backup", str(file), "--checkpoints", str(root)]) == 0
    shutil.rmtree(root)
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", server.new_database())
    assert cli.main(["database", "restore", str(file), "--checkpoints", str(root)]) == 0
    assert (run_rows(root), metric_rows(root), read_answers(root)) == before


def test_values_that_postgresql_cannot_store_are_replaced(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "x", 1)
    state = dataclasses.replace(read_state(folder), message="a\0b")
    open_index(tmp_path).put_run(folder, state, files.read_config(folder), "name")
    assert [row["message"] for row in run_rows(tmp_path)] == ["a\ufffdb"]
    index = open_index(tmp_path)
    assert index.add_metrics(folder.name, [MetricRow(0, 1, 9, 0.5, "x", float("nan"))])


def test_wrong_password_database_and_address_are_named(
    tmp_path: Path, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url, fact in (
        (f"postgresql://postgres:secret@127.0.0.1:{server.port}/no_such_database", "createdb"),
        (f"postgresql://nobody_such:secret@127.0.0.1:{server.port}/postgres", "check user and password"),
        ("postgresql://me:secret@127.0.0.1:1/x", "refused"),
    ):
        monkeypatch.setenv("SEGMENTARIUM_DATABASE", url)
        with pytest.raises(RunError, match=fact) as caught:
            open_index(tmp_path)
        assert "secret" not in str(caught.value)


def slow_statements(url: str) -> None:
    """Have every statement that removes values take longer than a page waits, as with millions of them."""
    seconds = STATEMENT_TIMEOUT_MS / 1000 + 1
    with sa.create_engine(database.parse_url(url, "URL")).begin() as connection:
        connection.exec_driver_sql(
            f"create function slow() returns trigger language plpgsql as "
            f"$$ begin perform pg_sleep({seconds}); return null; end $$"
        )
        connection.exec_driver_sql(
            "create trigger slow after delete on metrics for each statement execute function slow()"
        )


def test_rebuild_and_copy_take_as_long_as_they_need_and_pages_do_not(
    tmp_path: Path, url: str, server: PostgresServer
) -> None:
    folder = make_run(tmp_path, "one", 3)
    before, target = metric_rows(tmp_path), server.new_database()
    copy_database(database.parse_url(url, "URL"), database.parse_url(target, "URL"))
    for name in (url, target):
        slow_statements(name)
    assert open_index(tmp_path).rebuild() == 1 and metric_rows(tmp_path) == before
    copied = copy_database(database.parse_url(url, "URL"), database.parse_url(target, "URL"))
    assert copied.rows["metrics"] == len(before)
    with pytest.raises(RunError, match=r"took too long|no answer"):  # the connection of the rebuild is limited again
        open_index(tmp_path).delete_run(folder.name)
    availability._unavailable.clear()
    assert metric_rows(tmp_path) == before


def test_half_a_million_values_are_rebuilt_synchronised_and_removed(tmp_path: Path, url: str) -> None:
    folder = make_run(tmp_path, "one", 3)
    kept = metric_rows(tmp_path)
    with sa.create_engine(database.parse_url(url, "URL")).begin() as connection:
        connection.exec_driver_sql(
            "insert into metrics (root, run, epoch, step, elapsed_s, name, value) select root, run, 1, n, n, 'lr', 0.1 "
            "from generate_series(1, 500000) as n, (select root, run from metrics limit 1) as one"
        )
    index = open_index(tmp_path)
    index.synchronize_metrics(folder.name, metrics_file.read_metrics(folder))
    assert metric_rows(tmp_path) == kept
    assert index.rebuild() == 1 and metric_rows(tmp_path) == kept
    index.delete_run(folder.name)
    assert metric_rows(tmp_path) == []
