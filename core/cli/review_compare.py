"""``review compare``: a model beside another one, or beside segmentations that no model has made, case by case."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.cli.arguments import add_data, add_progress
from core.cli.kept_predictions import KeptModel, add_data_reading, open_kept_model, warn_of_training
from core.cli.output import align_columns, number_cell
from core.cli.segmentation_source import RATER, SOURCE_HELP, is_source, open_source, score_source
from core.errors import ConfigError, RunError
from core.evaluation.case_measures import MEASURES
from core.evaluation.metrics import SubjectScore
from core.evaluation.paired_comparison import (
    TEST_IN_WORDS,
    PairedResult,
    comparable,
    compare_scores,
)
from core.formatting import format_count, format_list
from core.strict_json import dumps

HELP = "compare two models, or a model and another rater or a folder of files, on the cases of both, by a paired test"


@dataclass(frozen=True)
class _Side:
    """What is compared.

    Attributes
    ----------
    name : str.
    scores : mapping. Scores by case.
    seen : tuple of str. Cases that it was trained on.
    evaluate : str. The command that makes scores; empty where no model is compared.
    """

    name: str
    scores: Mapping[str, SubjectScore]
    seen: tuple[str, ...] = ()
    evaluate: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="A", help="a run, a checkpoint file or an ensemble")
    parser.add_argument("other", metavar="B", help=f"another one; or {SOURCE_HELP}")
    add_data(parser)
    add_data_reading(parser)
    add_progress(parser)
    parser.add_argument(
        "--measure", choices=[measure.key for measure in MEASURES], default="dice", help="what is compared"
    )


def run(args: argparse.Namespace) -> int:
    """Compare and report.

    Raises
    ------
    UserError
        If a model, a rater, a folder or a data set cannot be used, or no case has scores of both.
    """
    measure = next(m for m in MEASURES if m.key == args.measure)
    sides = _open_sides(args)
    names = [side.name for side in sides]
    scores = [side.scores for side in sides]
    shared = [id for id in scores[0] if id in scores[1]]
    if not shared:
        counts = " and ".join(str(len(found)) for found in scores)
        raise RunError(
            f"expected cases that both have segmented, found {counts} scored ones, none of them shared; make them: "
            f"{sides[1].evaluate or sides[0].evaluate} --subject ID --keep"
        )
    results = compare_scores(scores[0], scores[1], measure)
    left_out = comparable(scores[0], scores[1]).left_out
    if left_out:
        print(f"warning: only one of the models scores {format_list(left_out)}: not compared", file=sys.stderr)
    for side in sides:
        warn_of_training(side.name, [id for id in shared if id in side.seen])
    if args.json:
        described = {"measure": measure.key, "label": measure.label, "models": names, "cases": shared}
        described["left_out"] = list(left_out)
        print(dumps({**described, "results": [result.to_json() for result in results]}))
        return 0
    print(f"{measure.label}, {format_count(len(shared), 'case')} of both; A {names[0]}, B {names[1]}")
    print("\n".join(align_columns(_rows(results, measure.decimals))))
    for r in results:
        print(f"{r.class_name}: {r.verdict(names)}")
    print("".join(f"{r.left_out(names)}\n" for r in results if r.left_out(names)), end="")
    print(f"p: {TEST_IN_WORDS}")
    return 0


def _open_sides(args: argparse.Namespace) -> tuple[_Side, _Side]:
    """Both sides with their scores."""
    model = open_kept_model(args)
    other = None
    if not args.other.startswith(RATER):
        try:
            other = open_kept_model(args, args.other)
        except RunError:
            if not is_source(args.other):
                raise
    if other is None:
        first, source = _of_model(model), open_source(model.dataset, args.other)
        files = {id: file for id, file in source.matched.files.items() if id in first.scores}
        source = replace(source, matched=replace(source.matched, files=files))
        return first, _Side(source.name, score_source(model, source, args.progress).scores)
    if other.checkpoint == model.checkpoint:
        raise ConfigError(f"B: expected another model than A, got {model.checkpoint} twice; name another one")
    sides = _of_model(model), _of_model(other)
    if model.name == other.name:
        first, second = (
            replace(side, name=f"{m.name} ({m.checkpoint.stem})") for side, m in zip(sides, (model, other), strict=True)
        )
        return first, second
    return sides


def _of_model(model: KeptModel) -> _Side:
    scores = {id: kept.score for id, kept in model.predictions.items() if kept.score is not None}
    return _Side(model.name, scores, tuple(model.trained_on(list(scores))), model.evaluate)


def _rows(results: Sequence[PairedResult], decimals: int) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("class", "n", "mean A", "mean B", "A better", "B better", "median B - A", "p")]
    for r in results:
        wins = (str(r.first_better), str(r.second_better))
        numbers = (number_cell(r.median_difference, 4), number_cell(r.p, 3))
        rows.append((r.class_name, str(r.n), *r.means(decimals, "-"), *wins, *numbers))
    return rows
