"""``python -m core demo OUT``: write the demo data set (synthetic, in the layout of iSEG-2017)."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.cli.progress import add_progress, progress
from core.datasets.synthetic.demo import ensure_subject, make_demo


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write to: new, empty, or an unfinished demo")
    many = parser.add_mutually_exclusive_group()
    many.add_argument("--subjects", type=int, default=10, metavar="N", help="number of subjects, 1 to 1000; 35 MB each")
    many.add_argument(
        "--only", metavar="SUBJECT", default=argparse.SUPPRESS,
        help="make this one alone, subject-1 for example; a later call without --only makes the others",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same data")
    parser.add_argument(
        "--workers",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help="processes (default: one per core, at most 4)",
    )
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    only = getattr(args, "only", None)
    if only is not None:
        with progress(only, args.progress) as show:
            folder = ensure_subject(args.out, only, args.seed, progress=show)
        print(f"{only} in {folder}")
        return 0
    with progress("synthetic subjects", args.progress) as show:
        folder = make_demo(
            args.out, args.subjects, args.seed, workers=getattr(args, "workers", None), progress=show
        )  # fmt: skip
    print(f"{args.subjects} synthetic subjects in {folder}")
    return 0
