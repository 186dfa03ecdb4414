"""``quiz``: report the answers of the quiz."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from core.cli.arguments import add_checkpoints, add_json
from core.cli.help_format import HelpFormatter
from core.formatting import format_count
from core.paths import checkpoints_root
from core.runs.store.lost_answers import read_lost
from core.strict_json import dumps
from core.study.answers import ALL_GAMES, StudyReport, read_answers, summarise
from core.study.statistics import Score

CONFIDENCE_LABELS = {1: "1, a guess", 2: "2", 3: "3", 4: "4, certain"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command and its arguments."""
    add_json(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    help = "report the share of correct answers with exact 95 % intervals"
    report = actions.add_parser(
        "report",
        help=help.replace("%", "%%"),
        description=help.replace("%", "%%"),
        formatter_class=HelpFormatter,
    )
    report.add_argument(
        "study",
        metavar="STUDY",
        help=f"id of a game (or the beginning of one), as the quiz shows it at its end; {ALL_GAMES}: every answer",
    )
    add_checkpoints(report, nested=True)
    add_json(report, nested=True)


def run(args: argparse.Namespace) -> int:
    """Print the report of a game or of all games.

    Raises
    ------
    RunError
        If there is no such game, or the database cannot be read.
    """
    root = checkpoints_root(args.checkpoints)
    answers = read_answers(root, args.study)
    study = answers[0].game if answers and args.study != ALL_GAMES else args.study
    report = summarise(study, answers)
    found = read_lost(root)
    lost = found.number if args.study == ALL_GAMES else found.games.get(study, 0)
    if args.json:
        print(dumps({**report.to_json(), **({"lost": lost} if lost else {})}))
        return 0
    if not answers:
        print("no answers yet; play on the page Quiz of the workbench")
    else:
        _print_report(report)
    if lost:
        of = "all games" if args.study == ALL_GAMES else "this game"
        print(f"at least {format_count(lost, 'answer')} of {of} were lost with a damaged database, and are not counted")
    return 0


def _print_report(report: StudyReport) -> None:
    games = f", {format_count(report.games, 'game')}" if report.study == ALL_GAMES else ""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for title in ("RIGHT", "OF", "ACCURACY", "95 % INTERVAL"):
        table.add_column(title, justify="right", no_wrap=True)
    rows = [("all", report.score), *report.by_difficulty.items()]
    rows += [(f"sure {CONFIDENCE_LABELS[level]}", score) for level, score in report.by_confidence.items()]
    for name, score in rows:
        table.add_row(name, *_score_cells(score))
    console = Console(highlight=False, markup=False, width=100)
    console.print(f"{report.study}{games}: which is the ground truth? Guessing gives 50 %.")
    console.print(table)
    if report.median_seconds is not None:
        console.print(f"median time of an answer: {report.median_seconds:.1f} s; intervals: exact (Clopper-Pearson)")


def _score_cells(score: Score) -> tuple[str, ...]:
    return str(score.correct), str(score.n), score.accuracy_text, score.interval_text
