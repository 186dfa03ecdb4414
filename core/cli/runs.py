"""``runs``: list, show, stop, resume, move, duplicate, compare, annotate, delete; print a log; rebuild the index."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from core import runs, strict_json
from core.cli import checkpoints_root
from core.errors import RunError
from core.formatting import format_clock
from core.presets import command_line
from core.runs import RunSummary, Turn

ACTIONS = (
    "list", "show", "log", "stop", "resume", "move", "duplicate", "compare", "rename", "annotate", "delete", "rebuild",
)  # fmt: skip
STYLES = {"running": "green", "finished": "bold", "failed": "red", "crashed": "red", "stopping": "yellow"}
WIDTH_OF_A_PIPE = 240


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="what to do")
    parser.add_argument(
        "run", nargs="*", metavar="RUN", help="a run's id, the beginning of one, or a run's name; compare: several"
    )
    parser.add_argument("--json", action="store_true", help="report as JSON on standard output")
    parser.add_argument("--now", action="store_true", help="stop: end at once instead of saving a checkpoint first")
    parser.add_argument("--to", choices=get_args(Turn), default="first", help="move: where in the queue")
    parser.add_argument("--yes", action="store_true", help="delete: do not ask")
    parser.add_argument("--name", default=None, help="rename, annotate, duplicate: the new name")
    parser.add_argument("--notes", default=None, help="annotate: what there is to say about it")
    parser.add_argument("--tags", metavar="TAG,TAG", default=None, help="annotate: its tags, instead of those it has")
    parser.add_argument("--csv", metavar="FILE", default=None, help="compare: write every measured value there")
    parser.add_argument("--lines", type=int, default=50, help="log: how many of the last lines")


def run(args: argparse.Namespace) -> int:
    """Do one of the actions.

    Raises
    ------
    RunError
        If the run cannot be found or is not in a state that allows the action.
    """
    root = checkpoints_root(args.checkpoints)
    if args.action == "list":
        return _list(root, args.json)
    if args.action == "rebuild":
        return _rebuild(root, args.json)
    if args.action == "compare":
        return _compare(root, args.run, args.csv, args.json)
    if len(args.run) != 1:
        raise RunError(
            f"runs {args.action}: expected a run's id, the beginning of one, or its name, got "
            f"{len(args.run) or 'nothing'}; `runs list` shows all"
        )
    found = runs.find_run(root, args.run[0])
    if args.action == "log":
        print(runs.engine(root).logs(found.id, max(1, args.lines)))
        return 0
    if args.action == "delete":
        return _delete(root, found, args.yes, args.json)
    if args.action == "stop":
        runs.engine(root).stop(found.id, now=args.now)
    elif args.action == "resume":
        runs.resume(root, found.id)
    elif args.action == "move":
        runs.move(root, found.id, args.to)
    elif args.action == "rename":
        if args.name is None:
            raise RunError("runs rename: expected --name TEXT")
        runs.rename(root, found.id, args.name)
    elif args.action == "annotate":
        if args.name is args.notes is args.tags is None:
            raise RunError("runs annotate: expected --name, --notes or --tags")
        tags = None if args.tags is None else args.tags.split(",")
        runs.annotate(root, found.id, name=args.name, notes=args.notes, tags=tags)
    elif args.action == "duplicate":
        found = runs.get_run(root, runs.duplicate(root, found.id, args.name or ""))
    found = runs.get_run(root, found.id)
    if args.json:
        print(strict_json.dumps(found.to_json()))
    elif args.action == "show":
        runs.wake(root)
        _show(found)
    else:
        print(f"{found.id}: {found.state.state}" + (f", called {found.name}" if args.action == "rename" else ""))
    return 0


def _list(root: Path, as_json: bool) -> int:
    runs.wake(root)
    found, order = runs.list_runs(root), runs.queue(root)
    if as_json:
        print(strict_json.dumps([item.to_json() for item in found]))
        return 0
    if not found:
        print(f"no runs in {root} yet; start one: python -m core train demo --preset quick")
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("RUN", "NAME", "STATE", "EPOCH", "BEST DICE", "ELAPSED", "LEFT", "CREATED"):
        table.add_column(title, no_wrap=title in ("RUN", "STATE"), overflow="ellipsis")
    for item in found:
        state = item.state
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.created_at))
        left = format_clock(state.remaining_s) if state.active else ""
        name = item.name if item.name != item.id else ""
        shown = Text(_state(item), style=STYLES.get(state.state, ""))
        if item.id in order:
            shown.append(f" ({order.index(item.id) + 1})")
        table.add_row(item.id, name, shown, _epoch(item), _best(item), format_clock(state.elapsed_s), left, created)
    _console().print(table)
    return 0


def _show(item: RunSummary) -> None:
    state = item.state
    rows = [
        ("run", item.id),
        ("name", item.name if item.name != item.id else ""),
        ("tags", ", ".join(item.tags)),
        ("notes", item.notes),
        ("state", _state(item) + (f": {state.message}" if state.message else "")),
        ("doing", state.what if state.active else ""),
        ("problem", item.problem),
        ("epoch", _epoch(item)),
        ("best Dice", _best(item)),
        ("elapsed", format_clock(state.elapsed_s)),
        ("left", format_clock(state.remaining_s) if state.active else ""),
        ("speed", f"{state.sub_volumes_per_s:.1f} sub-volumes/s" if state.sub_volumes_per_s else ""),
        ("trainer", f"process {state.pid}" if state.pid and state.active else ""),
        ("GPUs", ", ".join(map(str, state.gpus)) if state.active else ""),
        *state.facts.items(),
        ("data set", item.config.data.path),
        ("folder", str(item.folder)),
        ("same again", command_line(item.config, name=item.name if item.name != item.id else "")),
        ("curves", item.tensorboard),
    ]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, value)
    _console().print(table)


def _compare(root: Path, names: list[str], path: str | None, as_json: bool) -> int:
    found = runs.compare(root, names)
    if path is not None:
        try:
            Path(path).write_text(runs.curves_csv(root, names), encoding="utf-8")
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
    if as_json:
        print(strict_json.dumps(found.to_json()))
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("", *(run.name for run in found.runs)):
        table.add_column(title, overflow="fold")
    table.add_row("state", *(run.state.state for run in found.runs))
    table.add_row("epoch", *(_epoch(run) for run in found.runs))
    table.add_row("elapsed", *(format_clock(run.state.elapsed_s) for run in found.runs))
    for name, texts in found.differences.items():
        table.add_row(Text(name, style="dim"), *(text or "from the data" for text in texts))
    for name, values in found.measured.items():
        table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in values))
    _console().print(table)
    return 0


def _delete(root: Path, item: RunSummary, sure: bool, as_json: bool) -> int:
    if item.state.active:
        raise RunError(f"{item.id}: it is {item.state.state}; stop it first, then delete it")
    if not sure:
        if not sys.stdin.isatty():
            raise RunError(f"{item.id}: deleting is final; confirm with --yes")
        print(f"Delete {item.id} ({item.name}, {item.state.state}) with all its files? [y/N] ", end="", file=sys.stderr)
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("kept", file=sys.stderr)
            return 1
    runs.delete(root, item.id)
    print(strict_json.dumps({"deleted": item.id}) if as_json else f"{item.id}: deleted")
    return 0


def _rebuild(root: Path, as_json: bool) -> int:
    from core.runs.store.rebuild import rebuild

    if not root.is_dir():
        raise RunError(f"{root}: expected the folder of runs, found none; choose it with --checkpoints")
    made = rebuild(root)
    if as_json:
        damaged = None if made.damaged is None else str(made.damaged)
        print(strict_json.dumps({"runs": made.runs, "damaged": damaged, "answers_saved": made.answers}))
        return 0
    print(f"index of {made.runs} runs made again in {root}")
    if made.damaged is not None:
        saved = f", and {made.answers} answers of the quiz were taken over from it" if made.answers else ""
        print(f"the one before was damaged and is kept as {made.damaged}{saved}")
    return 0


def _state(item: RunSummary) -> str:
    silent = item.state.stalled_s(time.time())
    return item.state.state if silent is None else f"{item.state.state}, silent for {format_clock(silent)}"


def _epoch(item: RunSummary) -> str:
    return f"{item.state.epoch}/{item.state.epochs}" if item.state.epochs else ""


def _best(item: RunSummary) -> str:
    best = item.state.best
    if best is None or best.mean_dice is None:
        return ""
    return f"{best.mean_dice:.4f}" + (f" ({best.measured_on})" if best.measured_on else "")


def _console() -> Console:
    """Standard output; where it is no terminal, wide enough that nothing is cut off."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE)
