"""``submit``: queue a training run and return at once; standard output is only the run id."""

from __future__ import annotations

import argparse

from core.cli.options import add_config_flags, config_from
from core.paths import checkpoints_root
from core.runs import get_backend


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Queue the run.

    Raises
    ------
    UserError
        If a value or the data set cannot be used.
    """
    print(get_backend(checkpoints_root(args.checkpoints)).submit(config_from(args), args.name), flush=True)
    return 0
