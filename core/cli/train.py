"""``train``: a training run in the foreground; the first line on standard output is only the run id.

The command is the parent process of the trainer; with ``--engine`` it follows the log of a run that trains elsewhere.
Exit status: 0 finished, or stopped on request; 1 failed or crashed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from core.cli.arguments import add_engine
from core.cli.follow import follow
from core.cli.options import add_config_flags, run_config, takes_all_folds
from core.cli.program import program_name
from core.errors import ConfigError, RunError
from core.formatting import format_number
from core.paths import checkpoints_root
from core.runs import RunState, RunSummary, get_run, submit
from core.runs.engines.registry import get_engine
from core.runs.launch import WORKER, create_run, resolve_config
from core.runs.processes.trainer_parent import run_trainer
from core.runs.store import folder as files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_flags(parser)
    add_engine(parser)


def run(args: argparse.Namespace, worker: str = WORKER) -> int:
    """Train; progress goes to standard error.

    Parameters
    ----------
    args : Namespace. Parsed arguments.
    worker : str. Module of the trainer.

    Raises
    ------
    UserError
        If a value or the data set cannot be used, or the run failed or crashed; then with the message of the run.
    """
    root = checkpoints_root(args.checkpoints)
    if takes_all_folds(args):
        raise ConfigError(
            f"fold: expected one fold to train in a terminal, got all; queue all: {program_name()} submit"
        )
    if get_engine(root, args.engine).capabilities.jobs:
        folder = root / submit(root, run_config(args), args.name, worker, engine=args.engine)
        print(folder.name, flush=True)
        return _report(root, folder, follow(root, folder.name))
    config = resolve_config(root, run_config(args))
    folder = create_run(root, config, args.name, foreground=True)
    print(folder.name, flush=True)
    if sys.stderr.isatty():
        print("Ctrl-C saves a checkpoint and stops; a second Ctrl-C ends at once.", file=sys.stderr)
    return _report(root, folder, run_trainer(folder, worker, attached=True))


def _report(root: Path, folder: Path, state: RunState) -> int:
    """Print how a run ended; its exit status.

    Raises
    ------
    RunError
        If it failed or crashed.
    """
    if state.state not in ("finished", "stopped"):
        raise RunError(f"{state.message}  (log: {folder / files.LOG})")
    print(_summary(get_run(root, folder.name)), file=sys.stderr)
    return 0


def _summary(run: RunSummary) -> str:
    lines = [f"{run.state.state}: {run.folder}"]
    best = run.state.score
    if best is not None and best.mean_dice is not None:
        on = f" on {best.measured_on}" if best.measured_on else ""
        kind = "best mean" if run.state.best is not None else "last mean"
        lines.append(f"{kind} Dice {format_number(best.mean_dice, 4)}{on}, epoch {best.epoch}")
    if run.state.state == "stopped":
        lines.append(f"resume:   {program_name()} runs resume {run.id}")
    split = run.config.split
    if split.holds_out_nothing:
        lines.append("no Dice is measured: every subject was trained on, and nothing is held out")
    trained = (run.folder / files.BEST).is_file() or (run.folder / files.LAST).is_file()
    if trained and (split.test_subjects or not split.holds_out_nothing):
        lines.append(f"evaluate: {program_name()} evaluate {run.id} {shlex.quote(run.config.data.path)}")
    return "\n".join([*lines, f"curves:   {run.tensorboard}"])
