"""Progress of a command on standard error: a bar for a person at a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY_S = 5.0


class Show(Protocol):
    """Called with (done, total), and a few words if there are any."""

    def __call__(self, done: int, total: int, words: str = "", /) -> None: ...


@contextmanager
def bar(what: str) -> Iterator[Show]:
    """Progress while the block runs; quick work off a terminal leaves no line at all."""
    if not sys.stderr.isatty():
        yield _Lines(what)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", style="dim", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None, words="")

        def show(done: int, total: int, words: str = "", /) -> None:
            shown.update(task, completed=done, total=total, words=words)

        yield show


class _Lines:
    def __init__(self, what: str) -> None:
        self._what = what
        self._told_at = time.monotonic()

    def __call__(self, done: int, total: int, words: str = "", /) -> None:
        if time.monotonic() - self._told_at >= LINE_EVERY_S:
            self._told_at = time.monotonic()
            print(f"{self._what} {done}/{total}" + (f"  {words}" if words else ""), file=sys.stderr, flush=True)
