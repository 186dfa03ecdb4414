"""``engines``: list the engines of the checkpoints root, and try one."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core import strict_json
from core.cli.arguments import add_checkpoints, add_json
from core.cli.help_format import HelpFormatter
from core.formatting import format_duration
from core.paths import checkpoints_root
from core.runs import engine_poller
from core.runs.engines.engine import Check
from core.runs.engines.registry import get_engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their arguments; without a sub-command, engines are listed."""
    parser.epilog = "Engines are declared in engines.toml in the root of runs. Without a command, they are listed."
    add_json(parser)
    parser.set_defaults(engines_action=_list)
    actions = parser.add_subparsers(dest="action", metavar="COMMAND")
    helps = {
        "list": "list the engines with what runs and waits on each",
        "check": "try an engine: its client, whether it answers, and a job that looks for root, torch and GPUs",
    }
    for name, run in (("list", _list), ("check", _check)):
        action = actions.add_parser(name, help=helps[name], description=helps[name], formatter_class=HelpFormatter)
        action.set_defaults(engines_action=run)
        if name == "check":
            action.add_argument("engine", metavar="NAME", help="name of the engine; 'local' for this machine")
        add_checkpoints(action, nested=True)
        add_json(action, nested=True)


def run(args: argparse.Namespace) -> int:
    """Run one of the sub-commands; the exit status is 1 if a check fails.

    Raises
    ------
    UserError
        If engines.toml is invalid, or there is no such engine.
    """
    return int(args.engines_action(checkpoints_root(args.checkpoints), args))


def _list(root: Path, args: argparse.Namespace) -> int:
    overview = engine_poller.overview(root, wait_s=engine_poller.COMMAND_WAIT_S)
    if args.json:
        print(strict_json.dumps([asdict(status) for status in overview]))
        return 0
    for status in overview:
        print(f"{status.title}: {status.sentence}")
        for job in status.runs:
            print(f"  {job.run_id}  {job.state}" + (f"  {job.detail}" if job.detail else ""))
    return 0


def _check(root: Path, args: argparse.Namespace) -> int:
    engine, started_at = get_engine(root, args.engine), time.monotonic()
    checks = list(_shown(engine.check(root), quiet=args.json))
    held = all(check.held for check in checks)
    if args.json:
        report: dict[str, Any] = {"engine": engine.name, "kind": engine.kind, "held": held}
        print(strict_json.dumps({**report, "checks": [asdict(check) for check in checks]}))
    else:
        took = format_duration(time.monotonic() - started_at)
        print(f"{engine.title}: " + (f"ready ({took})" if held else "not ready"))
    return 0 if held else 1


def _shown(checks: Iterator[Check], quiet: bool) -> Iterator[Check]:
    """The checks, printed as they are made."""
    for check in checks:
        if not quiet:
            print(f"{'ok  ' if check.held else 'FAIL'}  {check.what}: {check.found}", flush=True)
        yield check
