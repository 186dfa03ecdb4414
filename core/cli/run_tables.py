"""Tables of runs on standard output: the list, one run, a comparison."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.cli.output import number_cell
from core.cli.program import with_program_name
from core.formatting import format_clock, format_number
from core.presets import command_line
from core.runs import OBSERVED, Comparison, RunSummary

STYLES = {
    "running": "green",
    "finished": "bold",
    "failed": "red",
    "crashed": "red",
    "stopping": "yellow",
    "stalled": "yellow",
    "unreachable": "yellow",
}
PIPE_WIDTH = 240  # columns where standard output is not a terminal, so that no text is cut off


def print_runs(summaries: Sequence[RunSummary], queue: Sequence[str]) -> None:
    """One line per run; ``queue`` holds the ids of queued runs in their order."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("RUN", "NAME", "STATE", "EPOCH", "BEST DICE", "ELAPSED", "LEFT", f"CREATED ({time.strftime('%Z')})"):
        table.add_column(title, no_wrap=title in ("RUN", "STATE"), overflow="ellipsis")
    for summary in summaries:
        state = summary.state
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.created_at))
        left = format_clock(state.remaining_s) if state.active else ""
        state_text = Text(_state(summary), style=STYLES.get(state.state, ""))
        if summary.id in queue:
            state_text.append(f" ({queue.index(summary.id) + 1})")
        elapsed = format_clock(state.elapsed_s)
        name = summary.given_name
        table.add_row(summary.id, name, state_text, _epoch(summary), _best_dice(summary), elapsed, left, created)
    _console().print(table)


def print_run(summary: RunSummary) -> None:
    """Print all facts about a run, one per line."""
    state = summary.state
    rows = [
        ("run", summary.id),
        ("name", summary.given_name),
        ("tags", ", ".join(summary.tags)),
        ("notes", summary.notes),
        ("state", _state(summary) + (f": {state.message}" if state.message else "")),
        ("doing", state.what if state.active else ""),
        ("engine", f"{summary.engine.engine}, job {summary.engine.job or 'none yet'}" if summary.engine else ""),
        ("host", (summary.report.place if summary.report else "") or state.host if state.active else ""),
        ("problem", summary.problem),
        ("epoch", _epoch(summary)),
        ("best Dice", _best_dice(summary)),
        ("elapsed", format_clock(state.elapsed_s)),
        ("left", format_clock(state.remaining_s) if state.active else ""),
        ("speed", f"{format_number(state.sub_volumes_per_s, 1)} sub-volumes/s" if state.sub_volumes_per_s else ""),
        ("trainer", f"process {state.pid}" if state.pid and state.active else ""),
        ("GPUs", ", ".join(map(str, state.gpus)) if state.active else ""),
        *state.facts.items(),
        ("data set", summary.config.data.path),
        ("folder", str(summary.folder)),
        ("command", with_program_name(command_line(summary.config, name=summary.given_name))),
        ("curves", summary.tensorboard),
    ]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, value)
    _console().print(table)


def print_comparison(comparison: Comparison) -> None:
    """A column per run; a row per setting that differs and per measured value."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("", *(run.name for run in comparison.runs)):
        table.add_column(title, overflow="fold")
    table.add_row("state", *(run.state.state for run in comparison.runs))
    table.add_row("epoch", *(_epoch(run) for run in comparison.runs))
    table.add_row("elapsed", *(format_clock(run.state.elapsed_s) for run in comparison.runs))
    for name, texts in comparison.differences.items():
        table.add_row(Text(name, style="dim"), *(text or "from the data" for text in texts))
    for name, values in comparison.measured.items():
        table.add_row(name, *(number_cell(value, 4) for value in values))
    _console().print(table)


def _state(summary: RunSummary) -> str:
    stalled_s = summary.state.stalled_s(time.time())
    state = summary.state.state
    if summary.state.state in OBSERVED:
        return f"{state}: {summary.state.message}"
    if state == "queued" and summary.engine is not None:
        return f"queued on {summary.engine.engine}"
    return state if stalled_s is None else f"{state}, no progress for {format_clock(stalled_s)}"


def _epoch(summary: RunSummary) -> str:
    return f"{summary.state.epoch}/{summary.state.epochs}" if summary.state.epochs else ""


def _best_dice(summary: RunSummary) -> str:
    best = summary.state.score
    if best is None or best.mean_dice is None:
        return ""
    so_far = "" if summary.state.score_is_final else " so far"
    return format_number(best.mean_dice, 4) + so_far + (f" ({best.measured_on})" if best.measured_on else "")


def _console() -> Console:
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
