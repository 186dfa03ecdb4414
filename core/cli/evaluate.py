"""``evaluate``: score a trained network on subjects of a data set, in whole volumes; keep what it segments if asked."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np

from core.cli import checkpoints_root
from core.cli.predict import add_choices, choices_from
from core.cli.progress import PARTS, add_progress, progress
from core.compute.allocator import enable_freed_memory_retention
from core.datasets import LAYOUTS, LoadedSubject, open_dataset
from core.evaluation.evaluate import SPLITS, Evaluation, evaluate
from core.evaluation.metrics import MeanScore, SubjectScore
from core.inference.predictor import Predictor
from core.paths import dataset_folder
from core.runs import find_checkpoint
from core.runs.predictions import keep_prediction, predictions_folder
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
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--split", choices=SPLITS, default=argparse.SUPPRESS,
        help="the subjects by their role in the run, or all (default: test, or val where none were set aside)",
    )  # fmt: skip
    which.add_argument(
        "--subject", action="append", default=argparse.SUPPRESS, metavar="ID",
        help="this subject instead of a split; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="store_true",
        help="keep the segmentations and their scores (in the run's folder) for the pages Review and Quiz; a subject "
        "without label is then segmented too",
    )  # fmt: skip
    add_choices(parser)
    parser.add_argument("--json", action="store_true", help="report as JSON on standard output, nothing else there")
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Score and report.

    Raises
    ------
    UserError
        If checkpoint and data set do not fit together, or a file cannot be used.
    """
    root = checkpoints_root(args.checkpoints)
    path = find_checkpoint(root, args.run)
    enable_freed_memory_retention()
    segmenter = Predictor(path, choices_from(args))
    dataset = open_dataset(dataset_folder(args.data), args.layout)
    trained_on = segmenter.description.dataset.get("path")
    split, chosen = getattr(args, "split", None), getattr(args, "subject", [])
    if split != "all" and not chosen and trained_on and str(dataset.path.resolve()) != trained_on:
        print(
            f"note: the run trained on {trained_on}; subjects of the same name here are taken to be the same",
            file=sys.stderr,
        )
    folder = predictions_folder(root, path, dataset.path)

    def keep(loaded: LoadedSubject, prediction: np.ndarray, score: SubjectScore | None) -> None:
        keep_prediction(folder, segmenter.description, dataset, loaded, prediction, score)

    with progress("subjects", args.progress, PARTS) as show:
        found = evaluate(segmenter, dataset, split, show, subjects=chosen, keep=keep if args.keep else None)
    if args.json:
        name = path.parent.name if path.parent.joinpath("run.json").is_file() else str(path)
        more = {"checkpoint": str(path), "data": str(dataset.path), **segmenter.facts()}
        if args.keep:
            more["kept"] = str(folder)
        print(dumps({**found.to_json(name), **more}))
        return 0
    synthetic = ", synthetic data" if dataset.synthetic else ""
    print(f"{path}: {found.split} subjects of {dataset.name}{synthetic}, whole volumes, n = {len(found.subjects)}")
    if found.subjects:
        print("\n".join(_table(found)))
    if found.unscored:
        print(f"segmented, and without a label to score with: {', '.join(found.unscored)}")
    if args.keep:
        print(f"kept in {folder}")
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
