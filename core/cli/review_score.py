"""``review score``: score segmentations that no model has made, as the segmentations of a model are scored."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from core.cli.arguments import add_data, add_model, add_progress
from core.cli.kept_predictions import add_data_reading, open_kept_model
from core.cli.output import align_columns, number_cell
from core.cli.segmentation_source import SOURCE_HELP, Source, open_source, score_source, several_files
from core.errors import RunError
from core.evaluation.metrics import SubjectScore
from core.evaluation.surfaces import tolerance_key
from core.strict_json import dumps

HELP = "score another rater's label maps, or files, in the classes of a model and against the reference of the data set"
TOLERANCE_MM = 1.0  # of the surface Dice in the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model(parser, ensembles=True)
    parser.add_argument("source", metavar="SOURCE", help=f"{SOURCE_HELP}; or a file of one case, with --case")
    add_data(parser)
    add_data_reading(parser)
    parser.add_argument("--case", metavar="ID", action="append", default=[], help="only this case; repeatable")
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Score and report.

    Raises
    ------
    UserError
        If a model, a data set or the segmentations cannot be used, or none of them could be scored.
    """
    model = open_kept_model(args)
    source = open_source(model.dataset, args.source, args.case)
    scored = score_source(model, source, args.progress)
    if args.json:
        failures = {**_several(source), **scored.failures}
        files = {id: str(file) for id, file in source.matched.files.items()}
        unmatched = [str(file) for file in source.matched.unmatched]
        print(dumps({**scored.to_json(), "failures": failures, "files": files, "unmatched": unmatched}))
        return 0 if scored.scores else 1
    if not scored.scores:
        raise RunError(f"{args.source}: expected segmentations that can be scored, found none; see the warnings")
    print(f"{source.name}, whole volumes")
    print("\n".join(align_columns(list(_rows(scored.scores)), left=2)))
    return 0


def _several(source: Source) -> dict[str, str]:
    return {id: several_files(files) for id, files in source.matched.ambiguous.items()}


def _rows(scores: Mapping[str, SubjectScore]) -> Iterator[tuple[str, ...]]:
    yield ("case", "class", "Dice", f"surface Dice {TOLERANCE_MM:g} mm", "HD95 mm", "ASD mm", "")
    for id, score in scores.items():
        for name, dice in score.dice.items():
            surface = score.surface_dice[name].get(tolerance_key(TOLERANCE_MM))
            distances = (number_cell(score.hd95_mm[name], 2), number_cell(score.asd_mm[name], 2))
            missed = "missed" if name in score.missed else ""
            yield (id, name, number_cell(dice), number_cell(surface), *distances, missed)
        yield (id, "mean", number_cell(score.mean_dice), "", "", "", "")
