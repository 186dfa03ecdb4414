"""Arguments that several commands share, each declared once.

``nested``: for a parser below another one that declares the same option; the outer parser holds the default, and the
option may stand before or after the sub-command.
"""

from __future__ import annotations

import argparse
import typing
from pathlib import Path

from core.choices import Device

NAMED_NETWORK = "named_network"  # argument that holds the user's own network that a command was given


def add_checkpoints(parser: argparse.ArgumentParser, *, nested: bool = False) -> None:
    """``--checkpoints DIR``."""
    parser.add_argument(
        "--checkpoints",
        metavar="DIR",
        default=argparse.SUPPRESS if nested else None,
        help="root of runs and their index (SEGMENTARIUM_CHECKPOINTS, else checkpoints/ beside the program)",
    )


def add_json(parser: argparse.ArgumentParser, *, nested: bool = False) -> None:
    """``--json``."""
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if nested else False,
        help="report as JSON on standard output, without other text",
    )


def add_progress(parser: argparse.ArgumentParser) -> None:
    """``--progress``, for programs that read the progress of a child process."""
    parser.add_argument(
        "--progress", action="store_true", help="report progress as lines 'progress 3/80' on standard error"
    )


def add_device(parser: argparse.ArgumentParser, help: str = "where to compute") -> None:
    """``--device``."""
    parser.add_argument("--device", choices=typing.get_args(Device), default="auto", help=help)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """``--engine NAME``."""
    parser.add_argument(
        "--engine",
        metavar="NAME",
        default="local",
        help="where to train: local (this machine), or an engine that engines.toml in the root of runs declares",
    )


def add_data(parser: argparse.ArgumentParser, help: str = "folder of the data set, or 'demo'") -> None:
    """Positional DATA."""
    parser.add_argument("data", metavar="DATA", help=help)


def add_layout(parser: argparse.ArgumentParser) -> None:
    """``--layout``."""
    parser.add_argument(
        "--layout",
        default="auto",
        metavar="auto|NAME|FILE.toml",
        help="how the folder is organised: recognised (for the data of a model, as in its training), a name that 'data "
        "layouts' lists, or a description of your own",
    )


def add_model(parser: argparse.ArgumentParser, *, ensembles: bool = False) -> None:
    """Positional RUN|FILE.

    Parameters
    ----------
    ensembles : bool. Whether several networks may act as one.
    """
    from core.cli.values import own_network  # imports the configuration

    one = "a run (its best checkpoint, else its last), or a checkpoint file"
    several = "; an ensemble, a group of runs, or runs and files joined by + predict as one"
    parser.add_argument("run", metavar="RUN|FILE", help=one + several * ensembles)
    parser.add_argument(
        "--model",
        dest=NAMED_NETWORK,
        metavar="FILE.py:CLASS",
        type=own_network,
        help="code of the checkpoint's network, if that is a network of your own which this machine does not know yet",
    )


def add_images(parser: argparse.ArgumentParser) -> None:
    """Positional IMAGE, one or more."""
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        type=Path,
        help="one file per modality in the order the network was trained with, or one 4-D file with all of them",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Positional RUN."""
    parser.add_argument("run", metavar="RUN", help="id of a run, the beginning of one, or a run's name")
