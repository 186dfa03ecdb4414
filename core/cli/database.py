"""``database``: check, migrate and copy the database, back up and restore it together with the folder of runs."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import strict_json
from core.cli.arguments import add_checkpoints, add_json
from core.cli.help_format import HelpFormatter
from core.cli.progress import show_progress
from core.formatting import format_bytes
from core.paths import checkpoints_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their arguments."""
    parser.epilog = (
        "SEGMENTARIUM_DATABASE chooses the database by its URL; without it, it is an SQLite file of the root."
    )
    add_json(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Path, argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=help, description=help, formatter_class=HelpFormatter)
        action.set_defaults(run_action=run)
        add_checkpoints(action, nested=True)
        add_json(action, nested=True)
        return action

    add("check", _check, "report version, content and speed of the database; exit 1 where something is wrong")
    add("migrate", _migrate, "make the tables, or bring those of an earlier version up to date")
    copy = add("copy", _copy, "copy everything to another database, and compare all rows")
    copy.add_argument("to", metavar="URL", help="the other database, such as postgresql://user@host/segmentarium")
    copy.add_argument("--from", dest="source", metavar="URL", help="database to copy from (default: the present one)")
    backup = add("backup", _backup, "write the folder of runs and the quiz answers to one file, also while runs train")
    backup.add_argument("file", metavar="FILE", type=Path, help="archive to write, outside the folder of runs")
    restore = add("restore", _restore, "make a folder of runs from a backup, in an empty or new folder")
    restore.add_argument("file", metavar="FILE", type=Path, help="archive that `database backup` wrote")


def run(args: argparse.Namespace) -> int:
    """Run one of the sub-commands.

    Raises
    ------
    RunError
        If the database or a file cannot be used.
    """
    return int(args.run_action(checkpoints_root(args.checkpoints), args))


def _check(root: Path, args: argparse.Namespace) -> int:
    from core.runs.store.inspection import inspect_database

    found = inspect_database(root)
    if args.json:
        print(strict_json.dumps(dataclasses.asdict(found)))
    else:
        print(f"database      {found.url}")
        print(f"software      {found.software or '-'}{'' if found.writable else ', read-only'}")
        print(f"tables        version {found.version} of {found.newest}")
        if found.answer_ms is not None:
            print(f"answers in    {found.answer_ms:.1f} ms")
        for name, rows in found.rows.items():
            print(f"{name:<13} {rows}")
        for place in found.roots:
            print(f"root          {place}")
        for problem in found.problems:
            print(f"problem: {problem}", file=sys.stderr)
    return int(bool(found.problems))


def _migrate(root: Path, args: argparse.Namespace) -> int:
    from core.runs.store.database import database_url, new_engine
    from core.runs.store.database_errors import display_name
    from core.runs.store.migration import migrate_url

    url = database_url(root)
    before, after = migrate_url(url, new_engine)
    if args.json:
        print(strict_json.dumps({"database": display_name(url), "before": before, "after": after}))
    elif before == after:
        print(f"{display_name(url)}: up to date, version {after}")
    else:
        print(f"{display_name(url)}: {'made' if before == 0 else f'brought from version {before}'} to version {after}")
    return 0


def _copy(root: Path, args: argparse.Namespace) -> int:
    from core.runs.store.database import database_url, parse_url
    from core.runs.store.transfer import copy_database

    source = database_url(root) if args.source is None else parse_url(args.source, "--from")
    started = time.monotonic()
    with show_progress("copying rows", False) as progress:
        copied = copy_database(source, parse_url(args.to, "URL"), on_row=progress)
    if args.json:
        print(strict_json.dumps(dataclasses.asdict(copied)))
    else:
        print(f"copied {copied.source} to {copied.target} in {time.monotonic() - started:.1f} s")
        print("every row compared equal:")
        for name, rows in copied.rows.items():
            print(f"  {name:<13} {rows}")
    return 0


def _backup(root: Path, args: argparse.Namespace) -> int:
    from core.runs.backup import back_up

    with show_progress("backing up", False) as progress:
        made = back_up(root, args.file, progress)
    return _report(made, f"{args.file}: backup of {root}", args)


def _restore(root: Path, args: argparse.Namespace) -> int:
    from core.runs.backup import restore

    with show_progress("restoring", False) as progress:
        made = restore(args.file, root, progress)
    return _report(made, f"{root}: restored from {args.file}", args)


def _report(made: Any, what: str, args: argparse.Namespace) -> int:
    if args.json:
        print(strict_json.dumps(dataclasses.asdict(made)))
    else:
        kept = ", ".join(f"{rows} {name.replace('_', ' ')}" for name, rows in made.rows.items())
        print(f"{what}: {made.runs} runs, {made.files} files, {format_bytes(made.bytes)}; {kept}")
    return 0
