"""Progress of a command on standard error: a bar for a person at a terminal, now and then a line elsewhere, or all of
it as lines for a program."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY_S = 5.0
PARTS = 100  # that whole steps are counted in, in lines for a program, where steps are done bit by bit


class Show(Protocol):
    """Called with (done, total), and a few words if there are any; done may have a fraction."""

    def __call__(self, done: float, total: int, words: str = "", /) -> None: ...


def add_progress(parser: argparse.ArgumentParser) -> None:
    """The option of commands that the web server starts."""
    parser.add_argument(
        "--progress", action="store_true", help="report progress as lines 'progress 3/80' on standard error"
    )


@contextmanager
def progress(what: str, lines: bool, parts: int = 1) -> Iterator[Show]:
    """Lines for a program that reads them (``--progress``), in ``parts`` of a step; else :func:`bar`."""
    if not lines:
        with bar(what) as show:
            yield show
        return

    def tell(done: float, total: int, words: str = "", /) -> None:
        print(f"progress {int(done * parts)}/{total * parts}", file=sys.stderr, flush=True)

    yield tell


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

        def show(done: float, total: int, words: str = "", /) -> None:
            shown.update(task, completed=done, total=total, words=words)

        yield show


class _Lines:
    def __init__(self, what: str) -> None:
        self._what = what
        self._told_at = time.monotonic()

    def __call__(self, done: float, total: int, words: str = "", /) -> None:
        if time.monotonic() - self._told_at >= LINE_EVERY_S:
            self._told_at = time.monotonic()
            print(f"{self._what} {int(done)}/{total}" + (f"  {words}" if words else ""), file=sys.stderr, flush=True)
