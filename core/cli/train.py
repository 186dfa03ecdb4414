"""``train``: a training run in the foreground; the first line on standard output is the run id alone.

The command itself is the process that waits for the trainer: it learns how training ended and turns that into its exit
status - 0 finished, or stopped on request; 1 failed or crashed.
"""

from __future__ import annotations

import argparse
import sys

from core.cli import checkpoints_root
from core.cli.options import add_config_flags, config_from
from core.errors import RunError
from core.runs import RunSummary, get_run
from core.runs.launch import WORKER, checked, create_run
from core.runs.processes.trainer_parent import watch
from core.runs.store import folder as files


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_flags(parser)


def run(args: argparse.Namespace, worker: str = WORKER) -> int:
    """Train; progress goes to standard error. ``worker`` is the module that trains.

    Raises
    ------
    UserError
        If something given cannot be used, or the run failed or crashed; the message is the run's.
    """
    root = checkpoints_root(args.checkpoints)
    config = checked(root, config_from(args))
    folder = create_run(root, config, args.name, foreground=True)
    print(folder.name, flush=True)
    if sys.stderr.isatty():
        print("Ctrl-C saves a checkpoint and stops; a second Ctrl-C ends at once.", file=sys.stderr)
    state = watch(folder, worker, attached=True)
    if state.state not in ("finished", "stopped"):
        raise RunError(f"{state.message}  (log: {folder / files.LOG})")
    print(_farewell(get_run(root, folder.name)), file=sys.stderr)
    return 0


def _farewell(run: RunSummary) -> str:
    lines = [f"{run.state.state}: {run.folder}"]
    best = run.state.best
    if best is not None and best.mean_dice is not None:
        on = f" on {best.measured_on}" if best.measured_on else ""
        lines.append(f"best mean Dice {best.mean_dice:.4f}{on}, epoch {best.epoch}")
    if run.state.state == "stopped":
        lines.append(f"go on:    python -m core runs resume {run.id}")
    if (run.folder / files.BEST).is_file() or (run.folder / files.LAST).is_file():
        lines.append(f"evaluate: python -m core evaluate {run.id} {run.config.data.path}")
    return "\n".join([*lines, f"curves:   {run.tensorboard}"])
