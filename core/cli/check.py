"""``python -m core check DATA``: the data doctor on the command line; exit status 1 where training would be unsafe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from core.cli.progress import add_progress, progress
from core.datasets import LAYOUTS
from core.datasets.doctor import check
from core.datasets.report import Report, SubjectFacts
from core.errors import DatasetError
from core.files import atomic_write
from core.strict_json import dumps

REPORT = "report.json"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="folder of the data set")
    parser.add_argument(
        "--layout", default="auto", metavar="|".join(("auto", *LAYOUTS)), help="how the folder is organised"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON, nothing else")
    add_progress(parser)
    parser.add_argument(
        "--thumbnails", metavar="DIR", type=Path, default=None,
        help=f"write a picture of each subject (<id>.png) and the report ({REPORT}) into this folder",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    try:
        with progress("subjects", args.progress) as show:
            report = check(args.data, args.layout, show, args.thumbnails)
    except MemoryError:
        raise DatasetError(
            f"{args.data}: expected enough free memory to read it, got too little; close something"
        ) from None
    if args.thumbnails is not None:
        _write(args.thumbnails, report)
    if args.json:
        print(dumps(report.to_json(), indent=2))
    elif report.dataset is not None:
        print("\n".join(_text(report)))
    if report.ok:
        return 0
    errors = report.of("error")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    print(f"error: {' '.join(errors[0].line.split())}{more}", file=sys.stderr)
    return 1


def _write(folder: Path, report: Report) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / REPORT, dumps(report.to_json()))
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written: {error.strerror or error}; choose another place") from error


def _text(report: Report) -> Iterator[str]:
    data = report.dataset
    assert data is not None
    synthetic = ", synthetic" if data.synthetic else ""
    yield f"{data.name}: {len(data.subjects)} subjects, {LAYOUTS[data.layout].title} layout{synthetic}"
    yield f"images: {', '.join(data.modalities)}; classes: {', '.join(data.labels.names)}"
    yield ""
    yield from _table(report)
    for finding in report.findings:
        yield f"{finding.severity}: {finding.line}"
    if report.ok:
        warnings = len(report.of("warning"))
        yield "fit to train on" + (f", with {warnings} warning{'s' * (warnings > 1)}" if warnings else "")
    else:
        yield f"not fit to train on: {len(report.of('error'))} error{'s' * (len(report.of('error')) > 1)}"


def _table(report: Report) -> Iterator[str]:
    assert report.dataset is not None
    classes = report.dataset.labels.names[1:]
    rows = [("subject", "shape", "spacing mm", "axes", *(f"{name} %" for name in classes))]
    rows += [_row(facts, classes) for facts in report.subjects]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            (row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)))
        )
    yield ""


def _row(facts: SubjectFacts, classes: tuple[str, ...]) -> tuple[str, ...]:
    shape = "x".join(map(str, facts.shape)) if facts.shape else "-"
    spacing = "x".join(f"{size:.3g}" for size in facts.spacing_mm) if facts.spacing_mm else "-"
    shares = (f"{100 * facts.label_shares[c]:.2f}" if c in facts.label_shares else "-" for c in classes)
    return facts.id, shape, spacing, facts.orientation or "-", *shares
