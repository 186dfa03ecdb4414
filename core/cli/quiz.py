"""``quiz``: what the answers of the quiz come to."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from core.cli import checkpoints_root
from core.strict_json import dumps
from core.study.answers import ALL, Report, read_answers, report
from core.study.questions import Score

SURE_WORDS = {1: "1, a guess", 2: "2", 3: "3", 4: "4, certain"}


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", choices=("report",), help="report: right answers, with exact intervals")
    parser.add_argument(
        "study", metavar="STUDY",
        help=f"id of a game (or the beginning of one), as the quiz shows it at its end; {ALL}: every answer",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="report as JSON on standard output, nothing else there")


def run(args: argparse.Namespace) -> int:
    """Report.

    Raises
    ------
    RunError
        If there is no such game, or the database cannot be read.
    """
    answers = read_answers(checkpoints_root(args.checkpoints), args.study)
    study = answers[0].game if answers and args.study != ALL else args.study
    found = report(study, answers)
    if args.json:
        print(dumps(found.to_json()))
    elif not answers:
        print("no answers yet; play on the page Quiz of the workbench")
    else:
        _print(found)
    return 0


def _print(found: Report) -> None:
    games = f", {found.games} game{'s' * (found.games != 1)}" if found.study == ALL else ""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for title in ("RIGHT", "OF", "ACCURACY", "95 % INTERVAL"):
        table.add_column(title, justify="right", no_wrap=True)
    rows = [("all", found.score), *found.by_difficulty.items()]
    rows += [(f"sure {SURE_WORDS[sure]}", score) for sure, score in found.by_confidence.items()]
    for name, score in rows:
        table.add_row(name, *_numbers(score))
    console = Console(highlight=False, markup=False, width=100)
    console.print(f"{found.study}{games}: which is the ground truth? Guessing is right half of the time.")
    console.print(table)
    if found.seconds is not None:
        console.print(f"median time of an answer: {found.seconds:.1f} s; intervals: exact (Clopper-Pearson)")


def _numbers(score: Score) -> tuple[str, ...]:
    low, high = score.interval
    return str(score.correct), str(score.n), f"{100 * score.accuracy:.0f} %", f"{100 * low:.0f} to {100 * high:.0f} %"
