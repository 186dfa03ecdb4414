"""Progress of a command on standard error: a bar at a terminal, occasional lines elsewhere, or a line for every step
where a program reads them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Protocol

LINE_INTERVAL_S = 5.0
PARTS_PER_STEP = 100  # resolution of progress lines where steps are done bit by bit


class ProgressCallback(Protocol):
    """Called with (done, total) and an optional text; ``done`` may have a fraction."""

    def __call__(self, done: float, total: int, text: str = "", /) -> None: ...


@contextmanager
def show_progress(label: str, as_lines: bool, parts_per_step: int = 1) -> Iterator[ProgressCallback]:
    """Show progress while the block runs.

    Parameters
    ----------
    label : str. Unit that is counted, such as "subjects".
    as_lines : bool. Lines ``progress 3/80`` for a program (``--progress``), else a bar or occasional lines.
    parts_per_step : int. Factor of both numbers in these lines.
    """
    if not as_lines:
        with _bar(label) as callback:
            yield callback
        return

    def print_line(done: float, total: int, text: str = "", /) -> None:
        print(f"progress {int(done * parts_per_step)}/{total * parts_per_step}", file=sys.stderr, flush=True)

    yield print_line


@contextmanager
def _bar(label: str) -> Iterator[ProgressCallback]:
    if not sys.stderr.isatty() or find_spec("rich") is None:  # the benchmarks need torch alone
        yield _OccasionalLines(label)
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
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", style="dim", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None, text="")

        def update(done: float, total: int, text: str = "", /) -> None:
            bar.update(task, completed=done, total=total, text=text)

        yield update


class _OccasionalLines:
    """A line every few seconds; none for quick work."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._printed_at = time.monotonic()

    def __call__(self, done: float, total: int, text: str = "", /) -> None:
        if time.monotonic() - self._printed_at >= LINE_INTERVAL_S:
            self._printed_at = time.monotonic()
            print(f"{self._label} {int(done)}/{total}" + (f"  {text}" if text else ""), file=sys.stderr, flush=True)
