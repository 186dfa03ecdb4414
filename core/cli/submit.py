"""``submit``: queue a training run and return at once; standard output is only the run id, or that of a group.

``--fold all`` queues a run for every fold of the split, as a group.
"""

from __future__ import annotations

import argparse

from core.cli.arguments import add_engine
from core.cli.options import add_config_flags, run_config, takes_all_folds
from core.cli.unconfirmed import report_unconfirmed
from core.paths import checkpoints_root
from core.runs import submit
from core.runs.groups import submit_folds
from core.runs.launch import WORKER


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_flags(parser)
    add_engine(parser)
    parser.epilog = "With --fold all every fold is queued, as a group: `runs group` shows its scores."


def run(args: argparse.Namespace, worker: str = WORKER) -> int:
    """Queue the run, or a run for every fold. Exit status 1 where a cluster did not say whether it took them.

    Parameters
    ----------
    args : Namespace. Parsed arguments.
    worker : str. Module of the trainer.

    Raises
    ------
    UserError
        If a value or the data set cannot be used.
    """
    root = checkpoints_root(args.checkpoints)
    if takes_all_folds(args):
        group = submit_folds(root, run_config(args), args.name, worker, engine=args.engine)
        print(group.id, flush=True)
        return report_unconfirmed(root, group.runs, group.id)
    run_id = submit(root, run_config(args), args.name, worker, engine=args.engine)
    print(run_id, flush=True)
    return report_unconfirmed(root, [run_id], run_id)
