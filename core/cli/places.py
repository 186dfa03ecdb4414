"""``places``: where training would draw sub-volumes of a subject, by which rule, and what lies in them."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from core.cli.progress import add_progress, progress
from core.config import SamplingConfig, field_specs
from core.datasets import LAYOUTS, open_dataset
from core.datasets.loading import load_subject
from core.errors import ConfigError, DatasetError, VolumeError
from core.files import atomic_write
from core.inspection.patch_statistics import Draws, draws
from core.paths import dataset_folder
from core.strict_json import dumps
from core.types import Size3

MOST = 100_000


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("data", metavar="DATA", help="folder of the data set, or 'demo'")
    parser.add_argument(
        "--subject", metavar="ID", default=None, help="whose label map (default: the first that has one)"
    )
    parser.add_argument(
        "--layout", default="auto", metavar="|".join(("auto", *LAYOUTS)), help="how the folder is organised"
    )
    parser.add_argument(
        "--sub-volume", metavar="IxJxK", nargs="+", type=sub_volume, required=True, help="one or more sizes, in voxels"
    )
    parser.add_argument(
        "--foreground", metavar="SHARE", nargs="+", type=float, default=[0.0],
        help="one or more shares of sub-volumes centred on a voxel of a class picked at random",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", metavar="SHARE", type=float, default=0.0, help="least labelled share of the others"
    )
    parser.add_argument("--count", metavar="N", type=int, default=200, help=f"sub-volumes for each rule, 1 to {MOST}")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="same seed, same places")
    parser.add_argument("--out", metavar="FILE", type=Path, default=None, help="write the JSON report to this file")
    add_progress(parser)
    parser.add_argument("--json", action="store_true", help="report as JSON on standard output, nothing else there")


def run(args: argparse.Namespace) -> int:
    """Draw and report.

    Raises
    ------
    UserError
        If the subject cannot be read or has no label, or the rule is none that training could have.
    """
    if not 1 <= args.count <= MOST:
        raise ConfigError(f"count: expected 1 to {MOST} sub-volumes, got {args.count}")
    if not 0 <= args.seed < 2**63:
        raise ConfigError(f"seed: expected 0 or more, got {args.seed}")
    dataset = open_dataset(dataset_folder(args.data), args.layout)
    named = args.subject or next(iter(dataset.labelled_ids), None)
    if named is None:
        raise DatasetError(f"{dataset.path}: expected a subject with a label map, found none")
    label = load_subject(dataset, named).label
    if label is None:
        raise DatasetError(f"{dataset.path}: expected a label map of {named}, found none; choose another subject")
    names = dataset.labels.names
    rules = list(itertools.product(args.sub_volume, args.foreground))
    found = []
    with progress("rules", args.progress) as show:
        for size, share in rules:
            found.append(draws(label, len(names), size, share, args.threshold, args.count, args.seed))
            show(len(found), len(rules))
    report = {
        "subject": named, "shape": label.shape, "classes": names, "seed": args.seed,
        "share": np.bincount(label.ravel(), minlength=len(names)) / label.size, "draws": [d.to_json() for d in found],
    }  # fmt: skip
    if args.out is not None:
        _write(args.out, dumps(report))
    if args.json:
        print(dumps(report))
    elif args.out is None:
        print("\n".join(_table(names, report["share"], found)))
    return 0


def sub_volume(text: str) -> Size3:
    """A size in voxels as an argument: ``64x64x64``."""
    spec = next(spec for spec in field_specs() if spec.name == "sub_volume")
    try:
        i, j, k = SamplingConfig(sub_volume=spec.parse(text)).sub_volume
    except (ConfigError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"expected a size like 64x64x64, got {text}: {error}") from None
    return i, j, k


def _table(names: Sequence[str], share: np.ndarray, found: Sequence[Draws]) -> Iterator[str]:
    head = ("sub-volume", "foreground", *(f"{name} %" for name in names))
    rows = [head, ("whole volume", "", *(f"{100 * s:.1f}" for s in share))]
    for d in found:
        size = "x".join(map(str, d.sub_volume))
        rows.append((size, f"{d.foreground:g}", *(f"{100 * s:.1f}" for s in d.shares.mean(axis=0))))
        centred = np.bincount(d.centres, minlength=len(names)) / len(d.centres)
        rows.append(("  centred on", "", *(f"{100 * s:.1f}" for s in centred)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        yield "  ".join((row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))))


def _write(path: Path, text: str) -> None:
    try:
        atomic_write(path, text)
    except OSError as error:
        raise VolumeError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error
