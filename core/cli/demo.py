"""``demo``: write the demo data set (synthetic, in the layout of iSEG-2017)."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.cli.arguments import add_progress
from core.cli.progress import show_progress
from core.datasets.synthetic.demo import DEFAULT_SUBJECTS, ensure_subject, make_demo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="folder to write to: new, empty, or an unfinished demo data set"
    )
    subjects = parser.add_mutually_exclusive_group()
    subjects.add_argument(
        "--subjects", type=int, default=DEFAULT_SUBJECTS, metavar="N", help="number of subjects, 1 to 1000; 3 MB each"
    )
    subjects.add_argument(
        "--only",
        metavar="SUBJECT",
        help="make only this subject, such as subject-1; a later call without --only makes the others",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the synthetic anatomy")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core, at most 4)")
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Write the data set.

    Raises
    ------
    UserError
        If a number is out of range, or the folder holds other files or cannot be written.
    """
    if args.only is not None:
        with show_progress(args.only, args.progress) as progress:
            folder = ensure_subject(args.out, args.only, args.seed, progress=progress)
        print(f"{args.only} in {folder}")
        return 0
    with show_progress("synthetic subjects", args.progress) as progress:
        folder = make_demo(args.out, args.subjects, args.seed, workers=args.workers, progress=progress)
    print(f"{args.subjects} synthetic subjects in {folder}")
    return 0
