"""``review epochs``: segment a case with each kept epoch of a run, to see how its segmentation formed."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence

from core.checkpointing.metadata import read_metadata
from core.cli.arguments import add_progress
from core.cli.kept_predictions import add_data_reading
from core.cli.options import model_data_options
from core.cli.output import align_columns, number_cell
from core.cli.progress import PARTS_PER_STEP, show_progress
from core.datasets import open_dataset
from core.errors import ConfigError, RunError
from core.paths import checkpoints_root, dataset_folder
from core.runs.catalog import find_run
from core.runs.kept_epochs import ADVICE, KeptEpoch, kept_epochs
from core.runs.predictions import Prediction

HELP = "segment a case with each kept epoch of a run (train --keep-every N); continues where it was interrupted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="a run's id, its beginning, or its name")
    parser.add_argument("subject", metavar="CASE", help="id of the case")
    parser.add_argument("--data", metavar="DATA", help="folder of its data set (default: that of the run)")
    add_data_reading(parser)
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Segment and report.

    Raises
    ------
    UserError
        If the run has kept no epochs, its data set or the case is missing, or a prediction cannot be made or written.
    """
    from core.runs.epoch_segmenter import segment_epochs
    from core.strict_json import dumps

    root = checkpoints_root(args.checkpoints)
    folder = find_run(root, args.run).folder
    kept = kept_epochs(folder)
    for reason in kept.damaged:
        print(f"warning: {reason}", file=sys.stderr)
    if not kept.epochs:
        raise RunError(f"{folder.name}: expected kept epochs, found none; {ADVICE}")
    metadata = read_metadata(kept.epochs[-1].checkpoint)
    data = args.data or metadata.dataset.get("path")
    if not data:
        raise ConfigError(f"{folder.name}: expected the data set of the run, it names none; give it: --data DATA")
    own = dataset_folder(data)
    dataset = open_dataset(own, args.layout, model_data_options(args, metadata, own))
    dataset.subject(args.subject)  # an unknown one is reported as such, before a network is loaded
    with show_progress("epochs", args.progress, PARTS_PER_STEP) as progress:
        found = segment_epochs(root, kept.epochs, dataset, args.subject, progress)
    if args.json:
        described = [_described(epoch, found[epoch.name]) for epoch in kept.epochs if epoch.name in found]
        print(dumps({"run": folder.name, "subject": args.subject, "epochs": described}))
        return 0
    print(f"{folder.name}: {args.subject}, whole volume, by epoch")
    print("\n".join(align_columns(list(_rows(kept.epochs, found, metadata.label_space.names[1:])))))
    return 0


def _described(epoch: KeptEpoch, prediction: Prediction) -> dict[str, object]:
    score = prediction.score
    return {
        "name": epoch.name,
        "epoch": epoch.epoch,
        "checkpoint": str(epoch.checkpoint),
        "prediction": str(prediction.file),
        "mean_dice": None if score is None else score.mean_dice,
        "score": None if score is None else score.to_json(),
    }


def _rows(
    epochs: Sequence[KeptEpoch], found: Mapping[str, Prediction], classes: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    yield ("", *(f"Dice {name}" for name in classes), "mean Dice")
    for epoch in epochs:
        score = found[epoch.name].score if epoch.name in found else None
        values = [math.nan] * (len(classes) + 1)
        if score is not None:
            values = [*(score.dice.get(name, math.nan) for name in classes), score.mean_dice]
        yield (epoch.name, *(number_cell(value) for value in values))
