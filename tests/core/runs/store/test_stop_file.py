"""Stop file of a run: replaced as a whole, absent, unreadable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.errors import RunError
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
