"""Heartbeat of a run: its content, a folder that cannot be written, and changes on the clock of the reader."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from core.hosts import boot_id, host_name
from core.runs.store import heartbeat
from core.runs.store.heartbeat import ChangeWatch, Heartbeat, read_beat
from tests.support.elsewhere import run_elsewhere


def test_heartbeat_has_host_boot_and_a_growing_count(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.01)
    folder = run_elsewhere(root)
    with Heartbeat(folder, "7_1", 2):
        deadline = time.monotonic() + 10
        while (last := read_beat(folder)) is None or last.count < 2:
            assert time.monotonic() < deadline
    assert (last.host, last.boot, last.job, last.restart) == (host_name(), boot_id(), "7_1", 2)


def test_heartbeat_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    with Heartbeat(tmp_path / "no such folder"):
        pass
    assert read_beat(tmp_path) is None


def test_change_is_watched_on_the_clock_of_the_reader() -> None:
    watch = ChangeWatch()
    first = watch.silence("run", 1, lambda: 100.0)
    assert first.old and not first.certain and not first.changed
    second = watch.silence("run", 2, lambda: 100.0)
    assert not second.old and second.changed
