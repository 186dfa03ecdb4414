"""The command line: one module per command, each with ``add(subparsers)`` and ``run(args) -> int``.

A :class:`~core.errors.UserError` becomes one line on standard error and exit status 1; argparse's own usage errors exit
with status 2; Ctrl-C with 130. Modules are imported only when their command is used, so ``--help`` and ``submit`` stay
fast.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from core import __version__
from core.errors import UserError
from core.paths import checkpoints_root

__all__ = ["COMMANDS", "checkpoints_root", "main"]

COMMANDS = {
    "demo": "write the demo data set (synthetic, iSEG-2017 layout)",
    "check": "the data doctor: is a folder fit to train on?",
    "train": "train in the foreground; the first line printed is the run id",
    "submit": "queue a training run and return at once; prints the run id",
    "runs": "list, show, stop, resume, delete runs; rebuild their index",
    "predict": "segment images with a trained model",
    "export": "write a trained model as one small file to share",
    "evaluate": "score a trained model on a data set, in whole volumes",
    "features": "pictures of what a trained model computes inside, stage by stage",
    "places": "where training would draw sub-volumes of a subject, and what lies in them",
    "quiz": "what the answers of the quiz come to",
    "bench": "how fast training, prediction and augmentation are, beside nnU-Net, MONAI and TorchIO",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m core", description="Segmentarium: train, watch, predict and evaluate 3D segmentation models.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = next((a for a in arguments if not a.startswith("-")), None)
    modules = {}
    for name, help in COMMANDS.items():
        sub = subparsers.add_parser(
            name, help=help, description=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        sub.add_argument(
            "--checkpoints", metavar="DIR", default=None,
            help="root of runs and their index (SEGMENTARIUM_CHECKPOINTS, else checkpoints/ beside the program)",
        )  # fmt: skip
        if name == named:
            modules[name] = importlib.import_module(f"core.cli.{name}")
            modules[name].add(sub)
    args = parser.parse_args(arguments)
    try:
        return modules[args.command].run(args)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
