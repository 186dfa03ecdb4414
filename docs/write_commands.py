"""Writes commands.md, the reference of the command line, from the parsers: ``make docs``.

``--check`` does not write; its exit status is 1 where the page is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).with_name("commands.md")
sys.path.insert(0, str(PAGE.parents[1]))

from core.cli import build_parser  # noqa: E402
from core.cli.help_format import default_text  # noqa: E402
from core.cli.program import COMMAND, MODULE  # noqa: E402

INTRODUCTION = f"""\
# Commands
<!-- made by `make docs`, do not edit -->
`{COMMAND}` is the installed command; `{MODULE}` in the checkout is the same. With `--help`, every command shows
its part of this page. [`completion`](#segmentarium-completion) completes commands and options in a shell.

Exit status: 0 success, 1 an error (one line on standard error), 2 wrong usage, 130 interrupted.
"""


def page() -> str:
    """The text of commands.md."""
    return "\n".join([INTRODUCTION, *_sections(build_parser(COMMAND), 2, {})])


def _sections(parser: argparse.ArgumentParser, level: int, documented: dict[str, str]) -> Iterator[str]:
    """A section for the parser and each of its sub-commands. Options that equal those of a section above, found in
    ``documented`` by their text, are referred to."""
    commands = _commands(parser)
    if parser.prog == COMMAND:
        yield _index(parser, commands)
    else:
        yield f"{'#' * level} {parser.prog}"
        yield f"{_sentence(parser.description or '')} {parser.epilog or ''}".rstrip() + "\n"
        yield f"```\n{_usage(parser)}\n```\n"
        tables = "\n".join(_tables(parser))
        if len(tables) > 5000 and tables in documented:
            yield f"Arguments and options are those of [`{documented[tables]}`](#{_anchor(documented[tables])}).\n"
        else:
            documented[tables] = parser.prog
            yield tables
    for command in commands.values():
        yield from _sections(command, level + (parser.prog != COMMAND), documented)


def _index(parser: argparse.ArgumentParser, commands: dict[str, argparse.ArgumentParser]) -> str:
    lines = ["| Command | Purpose |", "|---|---|"]
    lines += [f"| [`{name}`](#{_anchor(c.prog)}) | {_cell(c.description or '')} |" for name, c in commands.items()]
    return "\n".join([*lines, "", f"`{parser.prog} --version` shows versions and the device.", ""])


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(actions[0].choices) if actions else {}


def _usage(parser: argparse.ArgumentParser) -> str:
    """Command, required options and positionals on one line."""
    words = [parser.prog, "[OPTIONS]"]
    for action in parser._actions:
        if action.option_strings and action.required:
            words.append(_option(action))
    words += [_metavar(action) for action in parser._actions if not action.option_strings]
    return " ".join(words)


def _tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Positional arguments, then options by group."""
    for group in parser._action_groups:
        shown = [a for a in group._group_actions if a.help != argparse.SUPPRESS and a.dest != "help"]
        if not shown:
            continue
        if group.title not in ("positional arguments", "options"):
            yield f"**{group.title}**: {group.description}\n"
        options = any(a.option_strings for a in shown)
        yield "| Option | Meaning | Default |\n|---|---|---|" if options else "| Argument | Meaning |\n|---|---|"
        for action in shown:
            yield _option_row(action, parser) if options else _argument_row(action, parser)
        yield ""


def _argument_row(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    if isinstance(action, argparse._SubParsersAction):
        links = [f"[`{name}`](#{_anchor(command.prog)})" for name, command in _commands(parser).items()]
        return f"| `{_metavar(action)}` | {', '.join(links)} |"
    return f"| `{_cell(_metavar(action))}` | {_cell(_help(action, parser))} |"


def _option_row(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text, _, default = _help(action, parser).partition(" (default: ")
    default = default.removesuffix(")") or default_text(action) or ""
    if not default and action.required:
        default = "required"
    return f"| `{_cell(_option(action))}` | {_cell(text)} | {_cell(default)} |"


def _option(action: argparse.Action) -> str:
    """An option with its value, as in the usage: ``--device auto|cuda|cpu``."""
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    return f"{action.option_strings[-1]} {_metavar(action)}"


def _metavar(action: argparse.Action) -> str:
    name = str(action.metavar or "|".join(map(str, action.choices or [action.dest.upper()])))
    if isinstance(action, argparse._SubParsersAction):
        return name if action.required else f"[{name}]"
    return {"+": f"{name} [{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), name)


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text = (action.help or "").replace(" (default: %(default)s)", "")
    return (text % {**vars(action), "prog": parser.prog}).replace("<", "&lt;")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="do not write; exit status 1 where out of date")
    if not parser.parse_args().check:
        PAGE.write_text(page(), "utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text("utf-8") == page():
        return 0
    sys.stderr.write(f"{PAGE}: out of date; run `make docs`\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
