"""Progress of a foreground run on standard error: a live progress bar with Dice per class, or plain lines."""

from __future__ import annotations

import os
import sys

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from core.events import Ended, Event, Metrics, Note, Preparing, Progress, Ready
from core.formatting import format_clock, format_number, format_score
from core.runs.reporting.log_lines import LogFormatter, format_dice

BAR_WIDTH = 30


class _PipeTolerantConsole(Console):
    """A console that stops printing when its pipe is closed; Rich's own exits the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())  # the buffer is flushed at exit
        os.close(nowhere)


class TerminalProgress:
    """Event listener that shows progress on standard error. A closed terminal or pipe is ignored: it must not fail the
    run."""

    def __init__(self) -> None:
        self._console = _PipeTolerantConsole(stderr=True, highlight=False)
        self._formatter = LogFormatter()
        self._dice: dict[str, Text] = {}
        self._bar = Table.grid()
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(Text(""), console=self._console, refresh_per_second=4, transient=False)
            self._live.start()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        try:
            if self._live is None:
                self._print(event)
            else:
                self._update(event, self._live)
        except OSError:  # the terminal was closed
            self._live = None

    def close(self) -> None:
        """End the live display; the last bar stays."""
        live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            except OSError:
                return

    def _print(self, event: Event) -> None:
        for line in self._formatter.lines(event):
            self._console.print(line, markup=False, soft_wrap=True)

    def _update(self, event: Event, live: Live) -> None:
        if isinstance(event, (Ready, Note, Ended)):
            self._print(event)
        elif isinstance(event, Preparing):
            live.update(self._row(event.activity, event.done, event.total, f"{event.done}/{event.total}"))
        elif isinstance(event, Metrics):
            for prefix, label in (("val", "validation"), ("whole", "whole volumes")):
                scores = format_dice(event.values, prefix)
                if scores:
                    line = f"Dice {scores}  {label}, epoch {event.epoch}"
                    self._dice[label] = Text(line, overflow="ellipsis", no_wrap=True)
            live.update(self._display())
        elif isinstance(event, Progress):
            done = event.step / max(1, event.steps_per_epoch)
            speed = f"  {format_number(event.sub_volumes_per_s, 1)} sub-volumes/s" if event.sub_volumes_per_s else ""
            loss = "" if event.loss is None else f"loss {format_score(event.loss)}  "
            details = f"{loss}{format_clock(event.remaining_s)} left{speed}"
            title = f"epoch {event.epoch}/{event.epochs}" + (
                "" if event.activity == "training" else f"  {event.activity}"
            )
            self._bar = self._row(title, done, event.epochs, details)
            live.update(self._display())

    def _display(self) -> Group:
        return Group(self._bar, *self._dice.values())

    def _row(self, title: str, done: float, total: float, details: str) -> Table:
        row = Table.grid(padding=(0, 1))
        width = BAR_WIDTH if self._console.width >= 100 else BAR_WIDTH // 2
        bar = ProgressBar(total=max(total, 1), completed=min(done, total), width=width)
        row.add_row(Text(title, no_wrap=True), bar, Text(details, no_wrap=True, overflow="ellipsis"))
        return row
