"""Command line with the toy as the trainer process: ``python -m toy_commands train DATA ...``."""

from __future__ import annotations

import functools
import sys

from core import cli
from core.cli import submit, train

if __name__ == "__main__":
    train.run = functools.partial(train.run, worker="toy_worker")
    submit.run = functools.partial(submit.run, worker="toy_worker")
    sys.exit(cli.main())
