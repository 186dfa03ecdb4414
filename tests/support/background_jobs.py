"""Waiting for background jobs of pages and for pages that show them."""

from __future__ import annotations

import contextlib
import io
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from ui.shared import jobs
from ui.shared.jobs import Job

TIMEOUT_S = 120.0
Value = TypeVar("Value")


def poll(read: Callable[[], Value], accept: Callable[[Value], object] = bool, interval_s: float = 0.05) -> Value:
    """Read a value until it is accepted, and return it.

    Raises
    ------
    AssertionError
        If no value is accepted in time.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while not accept(value := read()):
        assert time.monotonic() < deadline, f"not accepted within {TIMEOUT_S:.0f} s: {value!r}"
        time.sleep(interval_s)
    return value


def wait_for_job(observe: Callable[[], Job]) -> Job:
    """The state of a job once it is no longer running."""
    return poll(observe, lambda job: job.state != "running")


def run_at_once(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Have the commands of jobs run in this process, before :func:`ui.shared.jobs.start` returns.

    Returns
    -------
    list of list of str. The arguments of the jobs that are started.
    """
    from core.cli import main

    started: list[list[str]] = []

    def start(folder: Path, arguments: Sequence[str]) -> None:
        started.append(list(arguments))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(arguments))
        (folder / jobs.STDOUT).write_text(out.getvalue(), encoding="utf-8")
        (folder / jobs.STDERR).write_text(err.getvalue(), encoding="utf-8")
        ended: Any = SimpleNamespace(poll=lambda: status)
        monkeypatch.setitem(jobs._running, folder, ended)

    monkeypatch.setattr(jobs, "start", start)
    return started
