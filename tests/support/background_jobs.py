"""Waiting for background jobs of pages and for pages that show them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

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
