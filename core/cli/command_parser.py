"""Argument parser in which an option of true or false may stand without a value, for true, and whose errors are short
and say what to write instead."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

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
        parsed, unknown = super().parse_known_args(words, namespace)
        if unknown and self._subparsers is None:  # else the parser of the command has seen them
            self.error(self._unknown(unknown, words))
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line, without the usage, which is as long as a page for some commands."""
        self.exit(2, f"{self.prog}: error: {message}; see `{self.prog} --help`\n")

    def _unknown(self, unknown: Sequence[str], words: Sequence[str]) -> str:
        """What cannot be used, and what was probably meant: another option, or one word for the values of a list."""
        text = f"unrecognized arguments: {' '.join(unknown)}"
        options = {s: action for action in self._actions for s in action.option_strings}
        word = unknown[0]
        if word.startswith("-"):
            near = difflib.get_close_matches(word.partition("=")[0], options, n=3)
            return f"{text}, did you mean {' or '.join(near)}?" if near else text
        together = [n for n in range(len(words)) if list(words[n : n + len(unknown)]) == list(unknown)]
        end = max(together, default=words.index(word))  # of equal values the last are too many
        start = max((n for n in range(end) if words[n] in options), default=-1)
        if start >= 0 and "," in str(options[words[start]].metavar):
            values = [*words[start + 1 : end], *unknown]
            text += f", expected one word with commas: {words[start]} {','.join(v.strip(',') for v in values)}"
        return text
