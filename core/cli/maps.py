"""``maps``: keep maps of uncertainty, probabilities and logits of segmentations that are kept already."""

from __future__ import annotations

import argparse

from core.cli.arguments import add_json, add_progress
from core.cli.kept_predictions import add_kept_model, open_kept_model
from core.cli.progress import PARTS_PER_STEP, show_progress
from core.compute.allocator import set_freed_memory_retention
from core.errors import ConfigError
from core.formatting import format_count
from core.runs.kept_maps import KeptMaps, has_logits, kinds_of, map_file, read_kept_maps
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
        "without these maps)",
    )
    parser.add_argument(
        "--logits",
        action="store_true",
        help="also the logits of each class or region, the pre-activations of the last layer; an ensemble has none",
    )
    add_json(parser)
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Segment the subjects again, with the options of the kept segmentations, and keep the maps.

    Raises
    ------
    UserError
        If there is no up-to-date segmentation of a subject, its maps cannot be made or kept, or an ensemble is asked
        for logits.
    """
    model = open_kept_model(args)
    if args.logits and not has_logits(model.metadata):
        raise ConfigError(
            "--logits: expected one network, got an ensemble, which averages probabilities and has no logits; give one "
            "of its networks, or leave it out"
        )
    set_freed_memory_retention(True)
    if args.subject:
        chosen = [model.prediction(id) for id in dict.fromkeys(args.subject)]
    else:
        kept = [one for one in model.predictions.values() if not one.stale]
        made_before = {one.subject: read_kept_maps(one.file, one.made_at) for one in kept}
        chosen = [one for one in kept if not _suffice(made_before[one.subject], args.logits)]
    report = {}
    with show_progress("subjects", args.progress, PARTS_PER_STEP) as progress:
        for number, prediction in enumerate(chosen):

            def show(done: int, total: int, number: int = number, id: str = prediction.subject) -> None:
                progress(number + done / total, len(chosen), id)

            made = make_maps(model.checkpoint, model.dataset, prediction, show, logits=args.logits)
            kinds = kinds_of(model.metadata, made.maps.passes, args.logits)
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


def _suffice(maps: KeptMaps | None, logits: bool) -> bool:
    """Whether kept maps are there, and have logits where these are asked for."""
    return maps is not None and (maps.logits or not logits)
