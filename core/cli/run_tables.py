"""Tables of runs on standard output: the list, one run, a comparison."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.cli.output import number_cell
from core.cli.program import with_program_name
from core.formatting import format_clock, format_number
from core.presets import command_line
from core.runs import OBSERVED, Comparison, RunSummary
from core.runs.place import run_place

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
STATE_COLUMN, SHORTENED = 2, (4, 1)  # of the list: what is coloured, and what is cut first where a terminal is narrow
SHORTEST = 9  # characters that remain of a column


def print_runs(summaries: Sequence[RunSummary], queue: Sequence[str]) -> None:
    """One line per run; ``queue`` holds the ids of queued runs in their order.

    The lines are aligned here: a table of :mod:`rich` takes a millisecond for each.
    """
    titles = ("RUN", "NAME", "STATE", "EPOCH", "BEST DICE", "ELAPSED", "LEFT", f"CREATED ({time.strftime('%Z')})")
    positions = {id: number for number, id in enumerate(queue, 1)}
    rows = [_cells(summary, positions.get(summary.id)) for summary in summaries]
    widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    if not sys.stdout.isatty():
        print("\n".join(_line(row, widths) for row in (titles, *rows)))
        return
    console = _console()
    for column in SHORTENED:
        too_many = sum(widths) + 2 * (len(widths) - 1) - console.width
        widths[column] = min(widths[column], max(SHORTEST, widths[column] - max(0, too_many)))
    start = sum(widths[:STATE_COLUMN]) + 2 * STATE_COLUMN
    console.print(Text(_line(titles, widths), "bold"), soft_wrap=True)
    for summary, row in zip(summaries, rows, strict=True):
        line = Text(_line(row, widths))
        line.stylize(STYLES.get(summary.state.state, ""), start, start + len(row[STATE_COLUMN]))
        console.print(line, soft_wrap=True)


def print_run(summary: RunSummary) -> None:
    """Print all facts about a run, one per line."""
    state, where = summary.state, f" --engine {summary.engine.engine}" if summary.engine is not None else ""
    place = run_place(summary)
    rows = [
        ("run", summary.id),
        ("name", summary.given_name),
        ("tags", ", ".join(summary.tags)),
        ("notes", summary.notes),
        ("state", _state(summary) + (f": {state.message}" if state.message else "")),
        ("doing", state.what if state.active else ""),
        ("engine", f"{summary.engine.engine}, job {summary.engine.job or 'none yet'}" if summary.engine else ""),
        ("host", place.hosts if state.active or summary.engine else ""),
        ("history", place.history),
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
        ("command", with_program_name(command_line(summary.config, name=summary.given_name)) + where),
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


def _cells(summary: RunSummary, position: int | None) -> tuple[str, ...]:
    """The cells of a run in the list; ``position`` is that in the queue."""
    state = summary.state
    created = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.created_at))
    left = format_clock(state.remaining_s) if state.active else ""
    shown = _state(summary) + (f" ({position})" if position is not None else "")
    elapsed = format_clock(state.elapsed_s)
    return summary.id, summary.given_name, shown, _epoch(summary), _best_dice(summary), elapsed, left, created


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells side by side, each with the width of its column; what is longer ends with an ellipsis."""
    fitted = [
        set_cell_size(cell, width - 1) + "…" if cell_len(cell) > width else set_cell_size(cell, width)
        for cell, width in zip(cells, widths, strict=True)
    ]
    return "  ".join(fitted).rstrip()


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
