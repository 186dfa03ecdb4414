"""``submit``: queue a training run and return at once; standard output is only the run id, or that of a group.

``--fold all`` queues a run for every fold of the split, as a group.
"""

from __future__ import annotations

import argparse

from core.cli.options import add_config_flags, config_from, takes_all_folds
from core.paths import checkpoints_root
from core.runs import get_backend
from core.runs.groups import submit_folds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_flags(parser)
    parser.epilog = "With --fold all every fold is queued, as a group: `runs group` shows its scores."


def run(args: argparse.Namespace) -> int:
    """Queue the run, or a run for every fold.

    Raises
    ------
    UserError
        If a value or the data set cannot be used.
    """
    if takes_all_folds(args):
        print(submit_folds(checkpoints_root(args.checkpoints), config_from(args), args.name).id, flush=True)
        return 0
    print(get_backend(checkpoints_root(args.checkpoints)).submit(config_from(args), args.name), flush=True)
    return 0
