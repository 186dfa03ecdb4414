"""``errors``: list where a kept segmentation of a subject is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from core.cli.arguments import add_data, add_json, add_model
from core.cli.kept_predictions import add_data_reading, open_kept_model
from core.cli.output import align_columns, number_cell
from core.evaluation.error_regions import ErrorRegion, ErrorRegions
from core.evaluation.findings import Findings, subject_findings
from core.evaluation.lesions import LesionScore
from core.formatting import format_count
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
    add_data_reading(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Find and list.

    Raises
    ------
    UserError
        If there is no kept segmentation of the subject, or a file cannot be read.
    """
    model = open_kept_model(args)
    kept = model.prediction(args.subject)
    found = subject_findings(model.dataset, args.subject, model.metadata.label_space, kept.file)
    if args.json:
        print(dumps({"subject": args.subject, "prediction": str(kept.file), **found.to_json()}))
        return 0
    print("\n".join(report_lines(args.subject, found, args.with_border)))
    return 0


def report_lines(subject: str, found: Findings, with_border: bool) -> Iterator[str]:
    """The lines about the findings in a subject; those about regions leave out border errors unless asked for."""
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
