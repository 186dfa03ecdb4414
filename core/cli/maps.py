"""``maps``: keep maps of the uncertainty and the probabilities of segmentations that are kept already."""

from __future__ import annotations

import argparse

from core.cli.arguments import add_json, add_progress
from core.cli.kept_predictions import add_kept_model, open_kept_model
from core.cli.progress import PARTS_PER_STEP, show_progress
from core.compute.allocator import set_freed_memory_retention
from core.formatting import format_count
from core.runs.kept_maps import kinds_of, map_file, read_kept_maps
from core.runs.map_maker import make_maps
from core.strict_json import dumps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_kept_model(parser)
    parser.add_argument(
        "--subject",
        action="append",
        metavar="ID",
        help="this subject; may be given several times (default: all whose segmentation is kept, up to date and "
        "without maps)",
    )
    add_json(parser)
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Segment the subjects again, with the options of the kept segmentations, and keep the maps.

    Raises
    ------
    UserError
        If there is no up-to-date segmentation of a subject, or its maps cannot be made or kept.
    """
    model = open_kept_model(args)
    set_freed_memory_retention(True)
    if args.subject:
        chosen = [model.prediction(id) for id in dict.fromkeys(args.subject)]
    else:
        kept = [one for one in model.predictions.values() if not one.stale]
        chosen = [one for one in kept if read_kept_maps(one.file, one.made_at) is None]
    report = {}
    with show_progress("subjects", args.progress, PARTS_PER_STEP) as progress:
        for number, prediction in enumerate(chosen):

            def show(done: int, total: int, number: int = number, id: str = prediction.subject) -> None:
                progress(number + done / total, len(chosen), id)

            made = make_maps(model.checkpoint, model.dataset, prediction, show)
            kinds = kinds_of(model.metadata, made.maps.passes)
            report[prediction.subject] = {
                "passes": made.maps.passes,
                "changed_voxels": made.changed_voxels,
                "maps": {kind.key: map_file(prediction.file, kind) for kind in kinds},
            }
    if args.json:
        print(dumps({"subjects": report}))
    else:
        print(f"kept maps of {format_count(len(report), 'subject')}")
    return 0
