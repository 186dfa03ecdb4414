"""Listing, finding, renaming, annotating and deleting runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import runs
from core.config_data import DataConfig
from core.config_network import OptimConfig
from core.errors import RunError
from core.files import StampedCache
from core.presets import preset
from core.processes import PROJECT, module_environment
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store import metrics_file
from core.runs.store.index import open_index
from core.runs.store.state import read_state, write_state
from tests.support.elsewhere import run_elsewhere
from tests.support.index_rows import run_rows


def queued_run(root: Path, name: str = "", created_at: float | None = None) -> Path:
    folder = create_run(root, preset("quick").with_values({"path": "demo"}), name)
    if created_at is not None:
        write_state(folder, replace(read_state(folder), created_at=created_at))
    return folder


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    assert runs.list_runs(tmp_path / "nothing here") == []
    for name, created_at in (("old", 1.0), ("newest", 3.0), ("middle", 2.0)):
        queued_run(tmp_path, name, created_at)
    (tmp_path / "not a run").mkdir()
    (tmp_path / "a file").write_text("")
    assert [run.name for run in runs.list_runs(tmp_path)] == ["newest", "middle", "old"]


def test_queue_of_listed_runs_is_that_of_the_root_and_reads_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (queued_run(tmp_path, name) for name in ("a", "b", "c"))
    write_state(second, replace(read_state(second), state="finished"))
    runs.move_in_queue(tmp_path, third.name, "first")
    elsewhere = run_elsewhere(tmp_path, "queued")
    listed, queue = runs.list_runs(tmp_path), runs.queued_runs(tmp_path)
    assert queue == [third.name, first.name] and elsewhere.name in {run.id for run in listed}
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("nothing is read"))
    assert runs.queue_of(listed) == queue


def test_list_of_runs_that_differ_in_a_few_sections_reads_each_section_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a sweep: reading a section takes longer than all else in a list."""
    for number in range(12):
        config = preset("quick").with_values({"path": "demo", "learning_rate": 0.01 / (number + 1)})
        create_run(tmp_path, config)
    built: list[str] = []

    def count(section: type[OptimConfig | DataConfig]) -> None:
        check = section.__post_init__

        def counted(self: Any) -> None:
            built.append(section.__name__)
            check(self)

        monkeypatch.setattr(section, "__post_init__", counted)

    monkeypatch.setattr("core.config._read_sections", {})
    monkeypatch.setattr("core.runs.catalog._facts", StampedCache())
    count(OptimConfig)
    count(DataConfig)
    rates = sorted(run.config.optim.learning_rate for run in runs.list_runs(tmp_path))
    assert rates == sorted(0.01 / (number + 1) for number in range(12))
    assert built.count("OptimConfig") == 12 and built.count("DataConfig") == 1


def test_damaged_run_is_listed_with_its_problem(tmp_path: Path) -> None:
    good, bad = queued_run(tmp_path, "good"), queued_run(tmp_path, "bad")
    (bad / files.CONFIG).write_text("{")
    damaged = runs.get_run(tmp_path, bad.name)
    assert "config.json" in damaged.problem and damaged.name == "bad"
    assert {run.id for run in runs.list_runs(tmp_path)} == {good.name, bad.name}


def test_find_run_takes_id_unambiguous_prefix_or_name(tmp_path: Path) -> None:
    first, second = queued_run(tmp_path, "alpha one"), queued_run(tmp_path, "alpha two")
    for text in (first.name, first.name[:-1], "alpha-one", "alpha one"):
        assert runs.find_run(tmp_path, text).id == first.name
    with pytest.raises(RunError, match=r"'alpha'.* 2 runs") as caught:
        runs.find_run(tmp_path, "alpha")
    assert first.name in str(caught.value) and second.name in str(caught.value)
    for text in ("", "nobody", "../" + first.name):
        with pytest.raises(RunError, match="alpha-two"):
            runs.find_run(tmp_path, text)
    with pytest.raises(RunError, match="no runs"):
        runs.find_run(tmp_path / "empty", "x")


def test_exact_name_is_found_beside_longer_names_and_ids(tmp_path: Path) -> None:
    base, base2, other = (queued_run(tmp_path, name) for name in ("base", "base2", "base-2"))
    for text, folder in (("base", base), ("base2", base2), ("base-2", other)):
        assert runs.find_run(tmp_path, text).id == folder.name
    runs.rename(tmp_path, other.name, base.name[:6])  # a name that begins the id of another run
    assert runs.find_run(tmp_path, base.name[:6]).id == other.name
    runs.rename(tmp_path, other.name, base.name)  # a name that is the id of another run
    assert runs.find_run(tmp_path, base.name).id == base.name
    assert runs.matching_ids("", {"a": ""}) == []


def test_runs_of_the_same_name_are_found_by_id(tmp_path: Path) -> None:
    first, _ = queued_run(tmp_path, "twin"), queued_run(tmp_path, "twin")
    with pytest.raises(RunError, match="2 runs"):
        runs.find_run(tmp_path, "twin")
    assert runs.find_run(tmp_path, first.name).id == first.name


def test_renamed_run_keeps_its_id(tmp_path: Path) -> None:
    folder = queued_run(tmp_path, "before")
    assert runs.get_run(tmp_path, folder.name).name == "before"
    runs.rename(tmp_path, folder.name, "after [it]")
    assert runs.get_run(tmp_path, folder.name).name == "after [it]"
    assert run_rows(tmp_path)[0]["name"] == "after [it]"
    runs.rename(tmp_path, folder.name, "")
    assert runs.get_run(tmp_path, folder.name).name == folder.name


def test_deleted_run_is_removed_from_disk_and_index(tmp_path: Path) -> None:
    folder, other = queued_run(tmp_path), queued_run(tmp_path)
    index = open_index(tmp_path)
    for run in (folder, other):
        metrics_file.append_metrics(run, 1, 1, 0.0, {"lr": 1.0})
    index.rebuild()
    runs.delete(tmp_path, folder.name)
    assert [run.id for run in runs.list_runs(tmp_path)] == [other.name]
    assert [row["id"] for row in run_rows(tmp_path)] == [other.name]
    assert index.metrics_after(folder.name, 0, 10) == [] and len(index.metrics_after(other.name, 0, 10)) == 1
    assert not [path for path in tmp_path.iterdir() if "deleted" in path.name]
    with pytest.raises(RunError, match="none called"):
        runs.delete(tmp_path, folder.name)


def test_active_run_is_not_deleted(tmp_path: Path) -> None:
    folder = create_run(tmp_path, preset("quick"), foreground=True)  # this process is its parent, and alive
    with pytest.raises(RunError, match=r"starting.*stop it"):
        runs.delete(tmp_path, folder.name)
    assert folder.is_dir()


@pytest.mark.parametrize(
    "call", [runs.get_run, runs.request_stop, runs.resume, runs.delete, runs.log_tail, runs.metrics_after]
)
def test_run_ids_outside_the_root_are_refused(tmp_path: Path, call: object) -> None:
    outside = queued_run(tmp_path / "outside")
    (tmp_path / "root").mkdir()
    with pytest.raises(RunError, match="expected a run id"):
        call(tmp_path / "root", f"../outside/{outside.name}")  # type: ignore[operator]


@pytest.mark.slow
def test_import_of_runs_imports_neither_torch_nor_sqlalchemy() -> None:
    code = "import sys, core.runs; print(sorted({'torch', 'sqlalchemy', 'streamlit', 'nibabel'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=module_environment(), cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_serve_queue_starts_a_supervisor_only_for_queued_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []
    monkeypatch.setattr("core.runs.engines.local.ensure_supervisor", lambda root, worker: started.append(root))
    folder = queued_run(tmp_path)
    runs.serve_queue(tmp_path)
    assert started == [tmp_path]
    runs.request_stop(tmp_path, folder.name)
    runs.serve_queue(tmp_path)
    assert started == [tmp_path]


def test_runs_that_are_created_within_a_second_have_ids_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["net-20260131-235959-aaaa", "net-20260131-235959-aaaa", "net-20260131-235959-aaaa", "net-2"])
    monkeypatch.setattr(files, "new_run_id", lambda text: next(ids))
    first, second = (create_run(tmp_path, preset("quick").with_values({"path": "demo"})) for _ in range(2))
    assert first.name == "net-20260131-235959-aaaa" and second.name == "net-2"


@pytest.mark.parametrize("text", ["x" * 300, "~nobody-of-this-name/net.safetensors", ""])
def test_a_text_that_is_no_path_is_no_checkpoint(tmp_path: Path, text: str) -> None:
    with pytest.raises(RunError, match="expected a checkpoint file or a run, found no file"):
        runs.find_checkpoint(tmp_path, text)
