"""``review calibration``: whether the probabilities of a model are right, over the kept segmentations of a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from core.cli.arguments import add_progress
from core.cli.kept_predictions import add_kept_model, open_kept_model, warn_of_training
from core.cli.output import align_columns, number_cell
from core.cli.progress import PARTS_PER_STEP, show_progress
from core.errors import RunError
from core.evaluation.calibration import BINS, CalibrationCounts, pool_calibration
from core.formatting import format_count, format_list

HELP = "compare the probabilities of a model with how often they are right, class by class"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_kept_model(parser)
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Count and report.

    Raises
    ------
    UserError
        If there is no kept segmentation with a reference, or a file cannot be read or written.
    """
    from core.runs.kept_calibration import calibrate_kept
    from core.runs.map_maker import make_maps
    from core.strict_json import dumps

    model = open_kept_model(args)
    if not any(kept.score is not None for kept in model.predictions.values()):
        raise RunError(
            f"{args.run}: expected kept segmentations of cases with a reference, found none; make them: "
            f"{model.evaluate} --keep"
        )
    with show_progress("cases", args.progress, PARTS_PER_STEP) as progress:
        found = calibrate_kept(
            model.dataset,
            model.metadata,
            model.predictions,
            lambda kept, show: make_maps(model.checkpoint, model.dataset, kept, show),
            progress,
        )
    for id, reason in found.failures.items():
        print(f"warning: {id}: {reason}", file=sys.stderr)
    if found.outdated:
        print(f"warning: left out, outdated: {format_list(found.outdated)}", file=sys.stderr)
    trained_on = model.trained_on(list(found.cases))
    warn_of_training(model.name, trained_on, len(found.cases))
    pooled = pool_calibration(found.cases.values())
    if args.json:
        described: dict[str, Any] = {"classes": _described(pooled, with_bins=True)}
        described["cases"] = {id: _described(counts) for id, counts in found.cases.items()}
        left_out = {"failures": found.failures, "outdated": list(found.outdated)}
        print(dumps({**described, **left_out, "trained_on": trained_on}))
        return 0 if pooled else 1
    if not pooled:
        raise RunError(f"{args.run}: expected segmentations whose probabilities can be counted, found none; see above")
    print("\n".join(_report(pooled, len(found.cases))))
    return 0


def _described(counts: Mapping[str, CalibrationCounts], with_bins: bool = False) -> dict[str, Any]:
    """Counts as plain values, by class."""
    return {name: _numbers(one) | ({"bins": _bins(one)} if with_bins else {}) for name, one in counts.items()}


def _numbers(counts: CalibrationCounts) -> dict[str, Any]:
    parts = {"all": counts, "unclear": counts.unclear}
    return {
        name: {"voxels": part.total, "expected_calibration_error": part.expected_error(), "bias": part.bias}
        for name, part in parts.items()
    }


def _bins(counts: CalibrationCounts) -> list[dict[str, Any]]:
    return [
        {"low": b.low, "high": b.high, "probability": b.probability, "share": b.share, "voxels": b.voxels}
        for b in counts.bins()
    ]


def _report(pooled: Mapping[str, CalibrationCounts], cases: int) -> Iterator[str]:
    yield f"{format_count(cases, 'case')}, voxels of whole volumes; unclear: with a probability from 1 to 99 %"
    rows: list[tuple[str, ...]] = [("class", "ECE %, unclear", "bias %, unclear", "unclear voxels", "ECE %, all")]
    for name, counts in pooled.items():
        unclear = counts.unclear
        errors = [number_cell(100 * value, 2) for value in (unclear.expected_error(), unclear.bias)]
        rows.append((name, *errors, str(unclear.total), number_cell(100 * counts.expected_error(), 3)))
    yield from align_columns(rows)
    yield ""
    yield "how often the class is there, in %, by its probability"
    bins = {name: counts.bins() for name, counts in pooled.items()}
    rows = [("probability", *pooled)]
    for n in range(BINS):
        shares = [number_cell(100 * found[n].share, 1) for found in bins.values()]
        rows.append((f"{100 * n // BINS} to {100 * (n + 1) // BINS} %", *shares))
    yield from align_columns(rows)
    yield "ECE: expected calibration error; bias: mean probability minus how often the class is there"
