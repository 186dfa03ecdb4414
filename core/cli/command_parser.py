"""Argument parser in which an option of true or false may stand without a value, for true."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from core.fields import BOOLEANS

TRUE = "true"


class CommandParser(argparse.ArgumentParser):
    """Parser whose switches take the next word as their value only if it is true or false.

    A switch is an option with ``nargs="?"`` and ``const="true"``. argparse alone would take the folder of
    ``check --nan-is-zero FOLDER`` as the value.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        switches = {s for a in self._actions if a.nargs == "?" and a.const == TRUE for s in a.option_strings}
        words = list(sys.argv[1:] if args is None else args)
        options = words.index("--") if "--" in words else len(words)  # no option is behind it
        following = [*words, ""][1:]
        words[:options] = [
            f"{word}={TRUE}" if word in switches and next_word.lower() not in BOOLEANS else word
            for word, next_word in zip(words[:options], following[:options], strict=True)
        ]
        return super().parse_known_args(words, namespace)
