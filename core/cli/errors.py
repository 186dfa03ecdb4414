"""``errors``: list where a kept segmentation of a subject is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from core.checkpointing.metadata import read_metadata
from core.cli.arguments import add_data, add_json, add_layout, add_model
from core.cli.options import AS_IN_TRAINING, add_data_options, data_options_from
from core.cli.output import align_columns, number_cell
from core.datasets import open_dataset
from core.errors import RunError
from core.evaluation.error_regions import ErrorRegion, ErrorRegions
from core.evaluation.findings import Findings, subject_findings
from core.evaluation.lesions import LesionScore
from core.formatting import format_count
from core.paths import checkpoints_root, dataset_folder
from core.runs.models import find_model
from core.runs.predictions import read_predictions
from core.strict_json import dumps

LISTED = 20  # regions, as text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model(parser, ensembles=True)
    add_data(parser)
    parser.add_argument(
        "subject", metavar="SUBJECT", help="id of a subject whose segmentation is kept (evaluate --keep)"
    )
    parser.add_argument(
        "--with-border",
        action="store_true",
        help="list components of all wrong voxels; otherwise those that touch the border of their class in the other "
        "segmentation connect nothing",
    )
    add_layout(parser)
    add_data_options(parser, default=AS_IN_TRAINING)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Find and list.

    Raises
    ------
    UserError
        If there is no kept segmentation of the subject, or a file cannot be read.
    """
    root = checkpoints_root(args.checkpoints)
    checkpoint = find_model(root, args.run)
    metadata = read_metadata(checkpoint)
    options = data_options_from(args, metadata.train_config.data)
    dataset = open_dataset(dataset_folder(args.data), args.layout, options)
    dataset.subject(args.subject)  # an unknown one is reported as such
    kept = read_predictions(root, checkpoint, dataset.path).get(args.subject)
    if kept is None:
        raise RunError(
            f"{args.subject}: expected a kept segmentation, found none; make it: "
            f"python -m core evaluate {args.run} {args.data} --subject {args.subject} --keep"
        )
    found = subject_findings(dataset, args.subject, metadata.label_space, kept.file)
    if args.json:
        print(dumps({"subject": args.subject, "prediction": str(kept.file), **found.to_json()}))
        return 0
    print("\n".join(_report(args.subject, found, args.with_border)))
    return 0


def _report(subject: str, found: Findings, with_border: bool) -> Iterator[str]:
    errors = found.with_border if with_border else found.errors
    total_ml = sum(region.volume_ml for region in errors.regions) + errors.others_ml
    number = len(errors.regions) + errors.others
    border = "" if with_border else f"; {number_cell(errors.border_ml, 2)} ml of border errors beside them"
    yield f"{subject}: {format_count(number, 'region')} of errors, {number_cell(total_ml, 2)} ml{border}"
    if errors.regions:
        yield from align_columns(
            [("", "ml", "depth mm", "voxel", "reference > prediction"), *_rows(errors, found.classes)]
        )
    for name, score in found.lesions.items():
        yield _lesions(name, score)


def _rows(errors: ErrorRegions, classes: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for number, region in enumerate(errors.regions[:LISTED], 1):
        voxel = ",".join(str(n + 1) for n in region.centre)
        depth = number_cell(region.depth_mm, 1)
        yield str(number), number_cell(region.volume_ml, 2), depth, voxel, _confused(region, classes)


def _confused(region: ErrorRegion, classes: tuple[str, ...]) -> str:
    return ", ".join(f"{classes[pair.truth]} > {classes[pair.prediction]}" for pair in region.confused[:3])


def _lesions(name: str, score: LesionScore) -> str:
    total = len(score.detected) + len(score.missed)
    return (
        f"{name}: {len(score.detected)} of {format_count(total, 'lesion')} detected, {len(score.missed)} missed, "
        f"{len(score.false)} false, mean Dice of lesions {number_cell(score.mean_dice)}"
    )
