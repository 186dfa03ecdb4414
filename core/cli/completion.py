"""``completion``: print a script that completes commands, options, choices, files and runs in a shell.

shtab makes the script from the parsers. It is static, so completing starts no Python; only the ids of runs are looked
up, by the shell, in the root of runs.
"""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any

from core.cli.program import COMMAND
from core.errors import ConfigError
from core.paths import checkpoints_root

INSTALL = {
    "bash": f"mkdir -p ~/.local/share/bash-completion/completions; {COMMAND} completion bash "
    f"> ~/.local/share/bash-completion/completions/{COMMAND}",
    "zsh": f"{COMMAND} completion zsh > a folder of $fpath, as _{COMMAND}",
    "fish": f"{COMMAND} completion fish > ~/.config/fish/completions/{COMMAND}.fish",
}
DIRECTORIES = {"DIR", "FOLDER", "DATA", "OUT"}  # metavars of folders
FILES = {"FILE", "IMAGE", "SEG.nii.gz", "FILE.safetensors", "FOLDER|FILE.zip", "SOURCE"}
RUNS = {"RUN", "RUN|FILE"}

# Functions that offer the ids of runs in the root of runs, or these and files; the names of layouts, and files.
FUNCTIONS = {
    "bash": """\
_segmentarium_runs() {
  local root=ROOT file
  root="${SEGMENTARIUM_CHECKPOINTS:-$root}"
  compgen -W "$(for file in "$root"/*/{run.json,model.safetensors}; do
    [ -e "$file" ] && basename "$(dirname "$file")"; done)" -- "$1"
}
_segmentarium_models() {
  _segmentarium_runs "$1"
  compgen -f -- "$1"
}
_segmentarium_layouts() {
  compgen -W "LAYOUTS" -- "$1"
  compgen -f -- "$1"
}
""",
    "zsh": """\
_segmentarium_runs() {
  local root=ROOT
  root=${SEGMENTARIUM_CHECKPOINTS:-$root}
  local -a ids=($root/*/(run.json|model.safetensors)(N:h:t))
  compadd -a ids
}
_segmentarium_models() {
  _segmentarium_runs
  _files
}
_segmentarium_layouts() {
  local -a names=(LAYOUTS)
  compadd -a names
  _files
}
""",
    "fish": """\
function _segmentarium_runs
  set -l root ROOT
  test -n "$SEGMENTARIUM_CHECKPOINTS"; and set root $SEGMENTARIUM_CHECKPOINTS
  for file in $root/*/run.json $root/*/model.safetensors
    basename (dirname $file)
  end
end
function _segmentarium_models
  _segmentarium_runs
  __fish_complete_path (commandline -ct)
end
function _segmentarium_layouts
  printf '%s\n' LAYOUTS
  __fish_complete_path (commandline -ct)
end
""",
}
SHELLS = tuple(FUNCTIONS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=SHELLS, help="shell to print the script for")
    parser.epilog = "Install it: " + "; ".join(f"{shell}: {command}" for shell, command in INSTALL.items())


def run(args: argparse.Namespace) -> int:
    """Print the script.

    Raises
    ------
    ConfigError
        If the package shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise ConfigError("completion: expected the package shtab, found none; pip install shtab") from None
    from core.cli import build_parser
    from core.datasets.recognition import layout_names

    parser = build_parser(COMMAND)
    mark_values(parser)
    functions = FUNCTIONS[args.shell].replace("ROOT", shlex.quote(str(checkpoints_root(args.checkpoints))))
    functions = functions.replace("LAYOUTS", " ".join(layout_names()))
    print(shtab.complete(parser, args.shell, preamble=functions))
    return 0


def mark_values(parser: argparse.ArgumentParser) -> None:
    """Set the completion of each argument for shtab, by its metavar."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                mark_values(command)
        elif action.metavar in RUNS:
            _complete(action, _function("models" if action.metavar == "RUN|FILE" else "runs"))
        elif "--layout" in action.option_strings:
            _complete(action, _function("layouts"))
        elif action.metavar in DIRECTORIES:
            _complete(action, shtab.DIRECTORY)
        elif action.metavar in FILES:
            _complete(action, shtab.FILE)
        elif re.fullmatch(r"[a-z0-9_]+(\|[a-z0-9_]+)+", str(action.metavar)):
            action.choices = str(action.metavar).split("|")


def _function(offers: str) -> dict[str, str]:
    """The function of ``FUNCTIONS`` for each shell."""
    name = f"_segmentarium_{offers}"
    return {"bash": name, "zsh": name, "fish": f"({name})"}


def _complete(action: argparse.Action, completion: Any) -> None:
    vars(action)["complete"] = completion
