"""``runs``: list, show, stop, resume, move, duplicate, compare, group, annotate, delete; print a log; rebuild the
index."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from core import runs, strict_json
from core.cli import run_groups, run_tables
from core.cli.arguments import add_checkpoints, add_json, add_run
from core.cli.help_format import HelpFormatter
from core.cli.program import program_name
from core.cli.unconfirmed import report_unconfirmed
from core.errors import ConfigError, RunError
from core.formatting import format_count
from core.paths import checkpoints_root
from core.runs import QueuePosition, RunSummary, engine_poller
from core.runs.engines.registry import get_engine
from core.runs.give_up import give_up
from core.runs.groups import find_group
from core.runs.other_roots import list_other_runs
from core.runs.place import run_place
from core.sweeps.settings import MORE_TRIALS

Action = Callable[[Path, argparse.Namespace], int]

LOG_LINES = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their arguments; without a sub-command, runs are listed."""
    parser.epilog = "Without a command, all runs are listed."
    add_json(parser)
    actions = parser.add_subparsers(dest="action", metavar="COMMAND")
    parser.set_defaults(action="list", run_action=_list)
    early_flags: set[str] = set()

    def add(name: str, run: Action, help: str, *, of_one_run: bool = True) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=help, description=help, formatter_class=HelpFormatter)
        action.set_defaults(run_action=run)
        if of_one_run:
            add_run(action)
        add_checkpoints(action, nested=True)
        add_json(action, nested=True)
        return action

    def add_option(command: argparse.ArgumentParser, flag: str, help: str, **options: Any) -> None:
        """Declare an option of a sub-command. It may stand before the sub-command too, where help does not show it."""
        command.add_argument(flag, help=help, **options)
        if flag not in early_flags:
            early_flags.add(flag)
            hidden = {**options, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
            parser.add_argument(flag, dest=f"early_{flag.removeprefix('--')}", **hidden)

    listing = add("list", _list, "list all runs, the newest first", of_one_run=False)
    others: dict[str, Any] = {"action": "store_true", "help": "also the runs of other folders in a shared database"}
    parser.add_argument("--all-roots", **others)
    listing.add_argument("--all-roots", default=argparse.SUPPRESS, **others)
    add("show", _show, "show state, results and settings of a run")
    log = add("log", _log, "print the last lines of a run's log, and on a cluster those of its job")
    add_option(log, "--lines", "number of lines", metavar="N", type=int, default=LOG_LINES)
    stop = add("stop", _stop, "stop a run, or all runs of a group; a running one saves a checkpoint first")
    add_option(stop, "--now", "end at once, without saving a checkpoint", action="store_true")
    add_option(
        stop, "--no-more-trials", "of a sweep: end no trial that waits or trains, propose no more", action="store_true"
    )
    resume = add(
        "resume",
        _resume,
        "queue a run that ended early, or all such runs of a group, to go on from the last checkpoint",
    )
    add_option(resume, "--data", "new folder of the data set, if it was moved", metavar="DATA", default="")
    add_option(
        resume,
        "--force",
        "go on although the data, or the code of its network, is not what the run began with",
        action="store_true",
    )
    where = "where to train: local, or an engine that engines.toml declares (default: where it was)"
    add_option(resume, "--engine", where, metavar="NAME", default="")
    add(
        "give-up",
        _give_up,
        "set an unreachable run to crashed, whose machine is gone for good; watches it for a minute",
    )
    duplicate = add("duplicate", _duplicate, "queue a new run with the settings of another one")
    add_option(duplicate, "--name", "name of the new run (default: the other name with 'again')", metavar="TEXT")
    add_option(duplicate, "--engine", where.replace("it was", "the other was"), metavar="NAME", default="")
    move = add("move", _move, "change the position of a run in the queue")
    add_option(move, "--to", "new position", choices=get_args(QueuePosition), default="first")
    rename = add("rename", _rename, "change the name of a run or a group")
    add_option(rename, "--name", "new name; required", metavar="TEXT")
    annotate = add("annotate", _annotate, "change name, notes or tags of a run")
    add_option(annotate, "--name", "new name", metavar="TEXT")
    add_option(annotate, "--notes", "new notes, replacing the current ones", metavar="TEXT")
    add_option(annotate, "--tags", "new tags, replacing the current ones", metavar="TAG,TAG")
    compare = add("compare", _compare, "compare settings and results of two or more runs", of_one_run=False)
    compare.add_argument("run", metavar="RUN", nargs="+", help="ids of runs, the beginnings of ids, or names of runs")
    add_option(compare, "--csv", "write every measured value to this file", metavar="FILE")
    group = add(
        "group",
        _group,
        "show a group of runs: folds with mean and spread per class and a table per subject, or a sweep with its "
        "trials; without ID all groups",
        of_one_run=False,
    )
    group.add_argument("run", metavar="ID", nargs="?", help="id of a group, the beginning of one, or a group's name")
    add_option(group, "--complete", "queue the members that have no run", action="store_true")
    extend = add("extend", _extend, "have a sweep propose further trials", of_one_run=False)
    extend.add_argument("run", metavar="ID", help="id of a sweep, the beginning of one, or a sweep's name")
    add_option(extend, "--trials", "number of further trials", metavar="N", type=int, default=MORE_TRIALS)
    make = add("make-group", run_groups.make, "make a group of runs of one data set and split", of_one_run=False)
    make.add_argument("run", metavar="RUN", nargs="+", help="ids of runs, the beginnings of ids, or names of runs")
    add_option(make, "--name", "name of the group", metavar="TEXT")
    delete = add("delete", _delete, "delete a run that is not active, or a group with its runs, with all files")
    add_option(delete, "--keep-runs", "delete the group alone, and keep its runs", action="store_true")
    add_option(delete, "--yes", "do not ask for confirmation", action="store_true")
    add("rebuild", _rebuild, "rebuild the index from the folders of the runs", of_one_run=False)


def run(args: argparse.Namespace) -> int:
    """Run one of the sub-commands.

    Raises
    ------
    RunError
        If the run cannot be found or is not in a state that allows the action.
    """
    for early, value in [(name, value) for name, value in vars(args).items() if name.startswith("early_")]:
        name = early.removeprefix("early_")
        if not hasattr(args, name):
            raise RunError(
                f"runs {args.action}: expected options of this command, got --{name}; "
                f"`{program_name()} runs {args.action} --help` shows them"
            )
        setattr(args, name, value)
    return int(args.run_action(checkpoints_root(args.checkpoints), args))


def _list(root: Path, args: argparse.Namespace) -> int:
    runs.serve_queue(root)
    engine_poller.ask_all(root)
    summaries = runs.list_runs(root)
    queue = runs.queue_of(summaries)
    if args.all_roots:
        return _list_all_roots(root, summaries, queue, args)
    if args.json:
        print(strict_json.dumps([summary.to_json() for summary in summaries]))
    elif summaries:
        run_tables.print_runs(summaries, queue)
    else:
        print(f"no runs in {root} yet; start one: {program_name()} train demo --preset quick")
    return 0


def _list_all_roots(root: Path, own: Sequence[RunSummary], queue: Sequence[str], args: argparse.Namespace) -> int:
    """List the runs of this root, and below them those of the others, root by root."""
    others = list_other_runs(root)
    if others.problem:
        raise RunError(others.problem)
    by_place: dict[str, list[RunSummary]] = {}
    for run in others.runs:
        by_place.setdefault(run.place, []).append(run.summary)
    if args.json:
        placed = [("", own), *by_place.items()]
        print(strict_json.dumps([{**run.to_json(), "place": place} for place, listed in placed for run in listed]))
        return 0
    for place, listed in {str(root): own, **by_place}.items():
        print(f"{place}:")
        if listed:
            run_tables.print_runs(listed, queue if listed is own else ())
        else:
            print("no runs yet")
        print()
    return 0


def _show(root: Path, args: argparse.Namespace) -> int:
    engine_poller.ask_all(root)
    summary = runs.find_run(root, args.run)
    if args.json:
        print(strict_json.dumps({**summary.to_json(), "where": asdict(run_place(summary))}))
        return 0
    runs.serve_queue(root)
    run_tables.print_run(summary)
    return 0


def _log(root: Path, args: argparse.Namespace) -> int:
    summary = runs.find_run(root, args.run)
    text, record = runs.log_tail(root, summary.id, max(1, args.lines)), summary.engine
    output = "" if record is None else _job_output(root, summary, record.engine)
    if args.json:
        of_job = {} if record is None else {"job_output": output.splitlines()}
        print(strict_json.dumps({"id": summary.id, "lines": text.splitlines(), **of_job}))
        return 0
    print(text)
    if output and record is not None:
        print(f"\noutput of job {record.job}:\n{output}")
    return 0


def _job_output(root: Path, summary: RunSummary, engine: str) -> str:
    """What an engine itself wrote about a run; a note where it is not declared any more."""
    try:
        return get_engine(root, engine).logs(summary.folder)
    except ConfigError as error:
        return str(error)


def _group(root: Path, args: argparse.Namespace) -> int:
    if args.run is None:
        return run_groups.list_all(root, args)
    runs.serve_queue(root)
    return run_groups.complete(root, args) if args.complete else run_groups.show(root, args)


def _extend(root: Path, args: argparse.Namespace) -> int:
    group = find_group(root, args.run)
    if group is None:
        raise RunError(f"runs extend: expected a sweep, {args.run!r} is a run")
    return run_groups.extend(root, group, args)


def _stop(root: Path, args: argparse.Namespace) -> int:
    if (group := find_group(root, args.run)) is not None:
        return run_groups.stop(root, group, args)
    if args.no_more_trials:
        raise RunError(f"runs stop --no-more-trials: expected a sweep, {args.run!r} is a run")
    summary = runs.find_run(root, args.run)
    runs.request_stop(root, summary.id, now=args.now)
    return _report(root, summary.id, args)


def _resume(root: Path, args: argparse.Namespace) -> int:
    if (group := find_group(root, args.run)) is not None:
        return run_groups.resume(root, group, args)
    summary = runs.find_run(root, args.run)
    runs.resume(root, summary.id, data=args.data, force=args.force, engine=args.engine)
    return _report(root, summary.id, args) or report_unconfirmed(root, [summary.id], summary.id)


def _give_up(root: Path, args: argparse.Namespace) -> int:
    summary = runs.find_run(root, args.run)
    give_up(root, summary.id)
    return _report(root, summary.id, args)


def _duplicate(root: Path, args: argparse.Namespace) -> int:
    summary = runs.find_run(root, args.run)
    copy = runs.duplicate(root, summary.id, args.name or "", engine=args.engine)
    return _report(root, copy, args) or report_unconfirmed(root, [copy], copy)


def _move(root: Path, args: argparse.Namespace) -> int:
    summary = runs.find_run(root, args.run)
    runs.move_in_queue(root, summary.id, args.to)
    return _report(root, summary.id, args)


def _rename(root: Path, args: argparse.Namespace) -> int:
    if args.name is None:
        raise RunError("runs rename: expected --name TEXT")
    if (group := find_group(root, args.run)) is not None:
        return run_groups.rename(root, group, args)
    summary = runs.find_run(root, args.run)
    runs.rename(root, summary.id, args.name)
    return _report(root, summary.id, args, show_name=True)


def _annotate(root: Path, args: argparse.Namespace) -> int:
    if args.name is args.notes is args.tags is None:
        raise RunError("runs annotate: expected --name, --notes or --tags")
    summary = runs.find_run(root, args.run)
    tags = None if args.tags is None else args.tags.split(",")
    runs.annotate(root, summary.id, name=args.name, notes=args.notes, tags=tags)
    return _report(root, summary.id, args)


def _compare(root: Path, args: argparse.Namespace) -> int:
    comparison = runs.compare(root, args.run)
    if args.csv is not None:
        try:
            Path(args.csv).write_text(runs.curves_csv(root, args.run), encoding="utf-8")
        except OSError as error:
            raise RunError(f"{args.csv}: cannot be written: {error.strerror or error}") from error
    if args.json:
        print(strict_json.dumps(comparison.to_json()))
    else:
        run_tables.print_comparison(comparison)
    return 0


def _delete(root: Path, args: argparse.Namespace) -> int:
    if (group := find_group(root, args.run)) is not None:
        what = f"the record of {group.id}" if args.keep_runs else f"{group.id} ({group.name}) with all its runs"
        if args.yes or _is_confirmed(group.id, f"Delete {what}? [y/N] "):
            return run_groups.delete(root, group, args)
        print("kept", file=sys.stderr)
        return 1
    summary = runs.find_run(root, args.run)
    if args.keep_runs:
        raise RunError(f"{summary.id}: expected a group with --keep-runs, it is a run")
    if summary.state.active:
        raise RunError(f"{summary.id}: it is {summary.state.state}; stop it first, then delete it")
    question = f"Delete {summary.id} ({summary.name}, {summary.state.state}) with all its files? [y/N] "
    if not args.yes and not _is_confirmed(summary.id, question):
        print("kept", file=sys.stderr)
        return 1
    runs.delete(root, summary.id)
    print(strict_json.dumps({"deleted": summary.id}) if args.json else f"{summary.id}: deleted")
    return 0


def _rebuild(root: Path, args: argparse.Namespace) -> int:
    from core.runs.store.rebuild import rebuild

    if not root.is_dir():
        raise RunError(f"{root}: expected the folder of runs, found none; choose it with --checkpoints")
    rebuilt = rebuild(root)
    if args.json:
        damaged = None if rebuilt.damaged is None else str(rebuilt.damaged)
        lost = {"answers_lost": rebuilt.lost.number, "lost_by_game": rebuilt.lost.games}
        print(strict_json.dumps({"runs": rebuilt.runs, "damaged": damaged, "answers_saved": rebuilt.answers, **lost}))
        return 0
    print(f"rebuilt the index of {rebuilt.runs} runs in {root}")
    if rebuilt.damaged is not None:
        print(f"the damaged database is kept as {rebuilt.damaged}")
        print(f"kept: every run, from its folder; {format_count(rebuilt.answers, 'quiz answer')}, read from it")
        advice = "a file of `database backup` may hold them; reports of the quiz say that they are missing"
        print(f"lost: {rebuilt.lost}; {advice}" if rebuilt.lost.number else "lost: no answer of which there is a trace")
    return 0


def _report(root: Path, run_id: str, args: argparse.Namespace, *, show_name: bool = False) -> int:
    """Print the state of a run after a change."""
    summary = runs.get_run(root, run_id)
    if args.json:
        print(strict_json.dumps(summary.to_json()))
    else:
        print(f"{summary.id}: {summary.state.state}" + (f", named {summary.name}" if show_name else ""))
    return 0


def _is_confirmed(id: str, question: str) -> bool:
    """Ask at the terminal whether a run or group is to be deleted.

    Raises
    ------
    RunError
        If standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise RunError(f"{id}: deleting is final; confirm with --yes")
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
