"""``evaluate``: score a trained network on the labelled subjects of a data set, in whole volumes."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

from core.cli import checkpoints_root
from core.cli.predict import add_choices, choices_from
from core.cli.progress import bar
from core.datasets import LAYOUTS, open_dataset
from core.evaluate import SPLITS, Evaluation, evaluate
from core.locations import dataset_folder
from core.metrics import MeanScore, SubjectScore
from core.predict import Segmenter
from core.runs import find_checkpoint
from core.strict_json import dumps


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", metavar="RUN|FILE", help="a run (its best checkpoint, else its last), or a checkpoint file"
    )
    parser.add_argument("data", metavar="DATA", help="folder of the data set, or 'demo'")
    parser.add_argument(
        "--layout", default="auto", metavar="|".join(("auto", *LAYOUTS)), help="how the folder is organised"
    )
    parser.add_argument(
        "--split", choices=SPLITS, default=argparse.SUPPRESS,
        help="the subjects by their role in the run, or all (default: test, or val where none were set aside)",
    )  # fmt: skip
    add_choices(parser)
    parser.add_argument("--json", action="store_true", help="report as JSON on standard output, nothing else there")


def run(args: argparse.Namespace) -> int:
    """Score and report.

    Raises
    ------
    UserError
        If checkpoint and data set do not fit together, or a file cannot be used.
    """
    path = find_checkpoint(checkpoints_root(args.checkpoints), args.run)
    segmenter = Segmenter(path, choices_from(args))
    dataset = open_dataset(dataset_folder(args.data), args.layout)
    trained_on = segmenter.description.dataset.get("path")
    split = getattr(args, "split", None)
    if split != "all" and trained_on and str(dataset.path.resolve()) != trained_on:
        print(
            f"note: the run trained on {trained_on}; subjects of the same name here are taken to be the same",
            file=sys.stderr,
        )
    with bar("subjects") as show:
        found = evaluate(segmenter, dataset, split, show)
    if args.json:
        name = path.parent.name if path.parent.joinpath("run.json").is_file() else str(path)
        more = {"checkpoint": str(path), "data": str(dataset.path), **segmenter.facts()}
        print(dumps({**found.to_json(name), **more}))
        return 0
    synthetic = ", synthetic data" if dataset.synthetic else ""
    print(f"{path}: {found.split} subjects of {dataset.name}{synthetic}, whole volumes, n = {len(found.subjects)}")
    print("\n".join(_table(found)))
    return 0


def _table(found: Evaluation) -> list[str]:
    """Dice of each subject, then per class the means of all three measures."""
    classes = found.classes
    rows = [("subject", *(f"Dice {name}" for name in classes), "mean")]
    rows += [_row(id, score, classes) for id, score in found.subjects.items()]
    mean = found.mean
    rows.append(_row("mean", mean, classes))
    lines = _aligned(rows)
    measures = [("class", "Dice", "HD95 mm", "ASD mm", "n", "missed")]
    for c in classes:
        distances = _number(mean.hd95_mm[c], 2), _number(mean.asd_mm[c], 2)
        measures.append((c, _number(mean.dice[c]), *distances, str(mean.n[c]), str(mean.missed[c])))
    return [*lines, "", *_aligned(measures)]


def _row(title: str, score: SubjectScore | MeanScore, classes: Sequence[str]) -> tuple[str, ...]:
    return (title, *(_number(score.dice[c]) for c in classes), _number(score.mean_dice))


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join((row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))))
        for row in rows
    ]


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
