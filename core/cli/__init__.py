"""The command line: one module per command, each with ``add_arguments(parser)`` and ``run(args) -> int``.

A :class:`~core.errors.UserError`, and an error of the system that names a file, become one line on standard error and
exit status 1; argparse's usage errors exit with status 2; Ctrl-C with 130. Of the commands :func:`main` imports only
the one in use, so ``--help`` and ``submit`` start fast; :func:`build_parser` imports all of them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Collection, Sequence

from core.cli.arguments import NAMED_NETWORK, add_checkpoints
from core.cli.command_parser import CommandParser
from core.cli.help_format import HelpFormatter
from core.cli.program import program_name, with_program_name
from core.errors import UserError

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS = {
    "demo": "write the demo data set (synthetic, iSEG-2017 layout)",
    "data": "describe how the files of a folder are named; list the layouts that are known",
    "check": "check whether a data set is ready for training",
    "train": "train in the foreground; the first line printed is the run id",
    "submit": "queue a training run and return at once; prints the run id",
    "sweep": "search for good values of settings: queue trial after trial; prints the id of the sweep",
    "runs": "list, show, stop, resume, compare and delete runs; rebuild their index",
    "engines": "list the machines and clusters that train runs, and try one",
    "predict": "segment images with a trained model",
    "ensemble": "write several trained networks as one model",
    "postprocess": "show, choose or set what is done with the label maps of a model",
    "export": "write a trained model as one small file to share",
    "evaluate": "score a trained model on whole volumes of a data set",
    "errors": "list where a kept segmentation is wrong: regions of errors, lesions that are missed or false",
    "review": "write tables and files of the cases of a model, compare two models, list and write notes on cases",
    "maps": "keep maps of the uncertainty and the probabilities of kept segmentations, for the page Review",
    "features": "write the feature maps of a trained model as pictures, stage by stage",
    "places": "show where training draws sub-volumes of a subject, and which classes they contain",
    "quiz": "report the answers of the quiz",
    "database": "check, migrate, copy, back up and restore the database of runs and quiz answers",
    "bench": "measure training, inference and augmentation, beside nnU-Net, MONAI and TorchIO",
    "completion": "print a script that completes commands and options in a shell",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((a for a in arguments if not a.startswith("-")), "")
    args = _make_parser(program_name(), {command}).parse_args(arguments)
    try:
        status = int(args.run_command(args))
        if not status and (network := getattr(args, NAMED_NETWORK, None)):
            _remember(network)
        return status
    except UserError as error:
        print(f"error: {with_program_name(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}; check the path, and whether you may use it", file=sys.stderr)
        return 1


def _remember(network: str) -> None:
    """Add a network of the user that a command was given, and could use, to their list."""
    from core.models.own_networks import add_to_list  # imports the configuration

    add_to_list(network)


def build_parser(program: str | None = None) -> argparse.ArgumentParser:
    """The parser with the arguments of every command, for documentation and shell completion; imports torch.

    Parameters
    ----------
    program : str, optional. Name in usage lines; default: the name under which the program was started.
    """
    return _make_parser(program or program_name(), COMMANDS)


def _make_parser(program: str, complete: Collection[str]) -> argparse.ArgumentParser:
    """The parser of all commands; only those in ``complete`` get their arguments, which imports their modules."""
    parser = CommandParser(
        prog=program,
        description="Segmentarium: train, watch, predict and evaluate 3D segmentation models.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show versions and the device, and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help in COMMANDS.items():
        command = commands.add_parser(name, help=help, description=help, formatter_class=HelpFormatter)
        add_checkpoints(command)
        if name in complete:
            module = importlib.import_module(f"core.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(run_command=module.run)
    return parser


class _Version(argparse.Action):
    """Print the versions and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from core.cli.version import version_text  # imports importlib.metadata and torch

        print(version_text())
        parser.exit()
