"""Stop file of a run: replaced as a whole, absent, unreadable; and files of a run that another host replaces."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from core.config import TrainConfig
from core.errors import RunError
from core.runs.launch import create_run
from core.runs.processes.worker import StopRequest
from core.runs.store import folder as files
from core.runs.store.stop_file import AT_ONCE, PRUNED, STOP, read_pruned, read_stop, stop_requested, write_stop


def test_request_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert not stop_requested(tmp_path) and read_stop(tmp_path) is None
    write_stop(tmp_path)
    assert stop_requested(tmp_path) and read_stop(tmp_path) == ""
    write_stop(tmp_path, AT_ONCE)
    assert read_stop(tmp_path) == AT_ONCE
    assert [path.name for path in tmp_path.iterdir()] == [STOP]


def test_second_request_replaces_the_file_so_that_no_reader_sees_a_part_of_it(tmp_path: Path) -> None:
    write_stop(tmp_path, AT_ONCE)
    os.link(tmp_path / STOP, tmp_path / "as a reader has it open")
    write_stop(tmp_path)
    assert (tmp_path / "as a reader has it open").read_text() == AT_ONCE


def test_request_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="stop: cannot be written: No such file"):
        write_stop(tmp_path / "missing")


def test_reason_of_a_sweep_is_empty_where_it_gave_none(tmp_path: Path) -> None:
    assert read_pruned(tmp_path) == ""
    (tmp_path / PRUNED).write_text("pruned at epoch 3: 0.1 below\n")
    assert read_pruned(tmp_path) == "pruned at epoch 3: 0.1 below"


def failing(monkeypatch: pytest.MonkeyPatch, name: str, *errors: int) -> None:
    """Let looks at files of a name fail with these errors, one after another; the last one stays if it is EIO."""
    left, stat = list(errors), Path.stat

    def answer(path: Path, **how: bool) -> os.stat_result:
        if path.name == name and left:
            error = left[0] if left[0] == errno.EIO else left.pop(0)
            raise OSError(error, os.strerror(error), str(path))
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", answer)


def test_request_that_another_host_replaces_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stop(tmp_path)
    failing(monkeypatch, STOP, errno.ESTALE, errno.ESTALE)
    assert stop_requested(tmp_path)


def test_file_system_that_does_not_answer_for_a_moment_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stop(tmp_path)
    with monkeypatch.context() as broken:
        failing(broken, STOP, errno.EIO)
        assert not StopRequest(tmp_path, lambda: pytest.fail("no stop was seen"))()
    assert StopRequest(tmp_path, lambda: None)()


def test_run_whose_files_are_stale_or_not_readable_now_is_neither_missing_nor_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_run(tmp_path, TrainConfig())
    (folder / files.LAST).touch()
    for name in (files.CONFIG, files.LAST):
        with monkeypatch.context() as stale:
            failing(stale, name, errno.ESTALE)
            assert files.run_folder(tmp_path, folder.name) == folder and files.run_folders(tmp_path) == [folder]
            assert files.has_training_state(folder)
        with monkeypatch.context() as broken:
            failing(broken, name, errno.EIO)
            assert files.run_folders(tmp_path) == [folder], "the page says what is wrong with it"
            with pytest.raises(RunError, match="cannot be read: Input/output error; is its file system mounted"):
                files.run_folder(tmp_path, folder.name) if name == files.CONFIG else files.has_training_state(folder)
