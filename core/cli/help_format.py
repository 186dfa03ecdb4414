"""Help formatter of the command line: appends the default value to the help of an option."""

from __future__ import annotations

import argparse


class HelpFormatter(argparse.HelpFormatter):
    """Append the default value to the help of an option, unless the option is a flag or has no default."""

    def _get_help_string(self, action: argparse.Action) -> str:
        help_text, default = action.help or "", default_text(action)
        if default is None or "(default:" in help_text:
            return help_text
        escaped = default.replace("%", "%%")
        return f"{help_text} (default: {escaped})"


def default_text(action: argparse.Action) -> str | None:
    """The default value of an option as typed, or ``None`` for flags, positionals and options without one."""
    default = action.default
    empty = default is None or default is argparse.SUPPRESS or default in ("", (), [])
    if not action.option_strings or action.nargs == 0 or empty:
        return None
    return " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
