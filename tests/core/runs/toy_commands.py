"""The command line with the toy as its trainer: ``python -m toy_commands train DATA ...``."""

from __future__ import annotations

import functools
import sys

from core import cli
from core.cli import submit, train

if __name__ == "__main__":
    for module, name in ((train, "run"), (submit, "submit")):
        setattr(module, name, functools.partial(vars(module)[name], worker="toy_worker"))
    sys.exit(cli.main())
