"""Name under which the program was started, for usage lines and for commands in messages."""

from __future__ import annotations

import sys
from pathlib import Path

COMMAND = "segmentarium"  # the installed entry point
MODULE = "python -m core"  # from the checkout; messages of core and of the pages use this form


def program_name() -> str:
    """``segmentarium`` when started by the installed command, else ``python -m core``."""
    return COMMAND if Path(sys.argv[0]).stem == COMMAND else MODULE


def with_program_name(text: str) -> str:
    """Replace ``python -m core`` in commands to copy by the name under which the program was started."""
    return text.replace(f"{MODULE} ", f"{program_name()} ")
