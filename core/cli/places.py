"""``places``: draw sub-volumes of a subject as training does, and report their positions and classes."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.cli.arguments import add_data, add_json, add_layout, add_progress
from core.cli.options import add_data_options, data_options_from
from core.cli.output import align_columns, write_text
from core.cli.progress import show_progress
from core.cli.values import size_in_voxels
from core.config import SamplingConfig
from core.datasets import fitness, open_dataset
from core.datasets.loading import load_subject
from core.errors import ConfigError, DatasetError, VolumeError
from core.formatting import format_number, format_size
from core.inspection.patch_statistics import PatchStatistics, draw_patch_statistics
from core.paths import dataset_folder
from core.strict_json import dumps

MAX_COUNT = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_data(parser)
    parser.add_argument("--subject", metavar="ID", help="subject to draw from (default: the first with a label map)")
    add_layout(parser)
    add_data_options(parser)
    parser.add_argument(
        "--sub-volume",
        metavar="IxJxK",
        nargs="+",
        type=size_in_voxels,
        required=True,
        help="one or more sizes of sub-volumes in voxels",
    )
    parser.add_argument(
        "--foreground",
        metavar="SHARE",
        nargs="+",
        type=float,
        default=[0.0],
        help="one or more shares, 0 to 1, of sub-volumes centred on a voxel of a random class",
    )
    parser.add_argument(
        "--threshold",
        metavar="SHARE",
        type=float,
        default=0.0,
        help="least labelled share, 0 to 1, of the other sub-volumes",
    )
    parser.add_argument(
        "--count", metavar="N", type=int, default=200, help=f"sub-volumes for each size and share, 1 to {MAX_COUNT}"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of the draw")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the JSON report to this file")
    add_progress(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Draw and report.

    Raises
    ------
    UserError
        If the subject cannot be read or has no label map, or a value is out of range.
    """
    if not 1 <= args.count <= MAX_COUNT:
        raise ConfigError(f"count: expected 1 to {MAX_COUNT} sub-volumes, got {args.count}")
    if not 0 <= args.seed < 2**63:
        raise ConfigError(f"seed: expected 0 or more, got {args.seed}")
    rules = [
        SamplingConfig(sub_volume=size, foreground=share, threshold=args.threshold)
        for size, share in itertools.product(args.sub_volume, args.foreground)
    ]
    dataset = open_dataset(dataset_folder(args.data), args.layout, data_options_from(args))
    subject = args.subject or next(iter(dataset.labelled_ids), None)
    if subject is None:
        raise DatasetError(f"{dataset.path}: expected a subject with a label map, found none")
    label = load_subject(dataset, subject).label
    if label is None:
        raise DatasetError(f"{dataset.path}: expected a label map of {subject}, found none; choose another subject")
    classes = dataset.labels.names
    statistics: list[PatchStatistics] = []
    with show_progress("rules", args.progress) as progress:
        for sampling in rules:
            statistics.append(draw_patch_statistics(label, len(classes), sampling, args.count, args.seed))
            progress(len(statistics), len(rules))
    class_shares = np.array(list(fitness.class_shares(label, dataset.labels).values()))
    report = {
        "subject": subject,
        "shape": label.shape,
        "classes": classes,
        "seed": args.seed,
        "share": class_shares,
        "draws": [s.to_json() for s in statistics],
    }
    if args.out is not None:
        write_text(args.out, dumps(report), VolumeError)
    if args.json:
        print(dumps(report))
    elif args.out is None:
        print("\n".join(_table(classes, class_shares, statistics)))
    return 0


def _table(classes: Sequence[str], class_shares: np.ndarray, statistics: Sequence[PatchStatistics]) -> list[str]:
    rows = [
        ("sub-volume", "foreground", *(f"{name} %" for name in classes)),
        ("whole volume", "", *_percentages(class_shares)),
    ]
    for s in statistics:
        size, foreground = format_size(s.sampling.sub_volume), f"{s.sampling.foreground:g}"
        centres = np.bincount(s.centre_classes, minlength=len(classes))[: len(classes)] / len(s.centre_classes)
        rows.append((size, foreground, *_percentages(s.class_shares.mean(axis=0))))
        rows.append(("  centre voxel", "", *_percentages(centres)))
    return align_columns(rows)


def _percentages(shares: np.ndarray) -> list[str]:
    return [format_number(100 * share, 1) for share in shares]
