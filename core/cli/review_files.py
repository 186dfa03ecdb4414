"""``review files``: score a segmentation against a reference, given as files without a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.cli.output import align_columns, number_cell
from core.datasets.file_case import (
    REFERENCE,
    ROLES,
    SEGMENTATION,
    FileCase,
    check_headers,
    default_names,
    file_case,
)
from core.datasets.segmentation_values import SegmentationValues, read_segmentation_values
from core.errors import ConfigError
from core.evaluation.file_comparison import FileComparison, compare_files
from core.evaluation.surfaces import tolerance_key
from core.strict_json import dumps

HELP = "score a segmentation against a reference, as files without a data set"
TOLERANCE_MM = 1.0  # of the surface Dice in the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        type=Path,
        help="image files, all on one grid; of DICOM the folder of a series, or one of its files where the folder "
        "holds several",
    )
    parser.add_argument("--reference", metavar="REF", type=Path, help="segmentation that is taken as right")
    parser.add_argument("--segmentation", metavar="SEG", type=Path, help="segmentation to score")
    for role in ROLES:
        parser.add_argument(
            f"--{role}-name",
            metavar="VALUE=NAME",
            action="append",
            default=[],
            help=f"class of a value of the {role}, in place of the name that is found; repeatable. Values of one name "
            "are one class; 'background' is none, 'ignore' leaves voxels out (reference only)",
        )
    parser.add_argument(
        "--names",
        metavar="TABLE",
        type=Path,
        action="append",
        default=[],
        help="table with the names of the values: of ITK-SNAP, 3D Slicer, FreeSurfer or BIDS (default: names in the "
        "files, or in a table beside them)",
    )
    parser.add_argument("--nan-is-zero", action="store_true", help="read NaN as 0 instead of refusing the file")
    parser.add_argument("--errors", action="store_true", help="list the regions of errors too")


def run(args: argparse.Namespace) -> int:
    """Check, score and report.

    Raises
    ------
    UserError
        If a file cannot be read, files are not on one grid, or a name is not given as VALUE=NAME.
    """
    paths = {role: getattr(args, role) for role in ROLES if getattr(args, role) is not None}
    if not paths:
        raise ConfigError("expected a segmentation: --reference REF, --segmentation SEG, or both")
    found = {
        role: read_segmentation_values(path, args.names, nan_is_zero=args.nan_is_zero) for role, path in paths.items()
    }
    names = default_names(found)
    for role in ROLES:
        names[role] = {**names.get(role, {}), **_given_names(role, getattr(args, f"{role}_name"), found.get(role))}
    case = file_case(args.images, found, names, args.nan_is_zero)
    warnings, notes = check_headers(case)
    compared = compare_files(case, with_findings=args.errors) if len(found) == len(ROLES) else None
    if compared is not None:
        warnings += compared.warnings
    if args.json:
        remarks = {"warnings": warnings, "notes": notes}
        print(dumps({**_report(args.images, case, found, names), **_scores(compared), **remarks}))
        return 0
    for text in warnings:
        print(f"warning: {text}", file=sys.stderr)
    print("\n".join(_table(case, found, names) if compared is None else _score_table(compared)))
    if compared is not None and compared.findings is not None:
        from core.cli.errors import report_lines

        print("\n".join(report_lines(case.id, compared.findings, with_border=False)))
    return 0


def _given_names(role: str, texts: list[str], found: SegmentationValues | None) -> dict[int, str]:
    """Names by value that are given as VALUE=NAME."""
    values = [] if found is None else [label.value for label in found.values]
    given: dict[int, str] = {}
    for text in texts:
        value, separator, name = text.partition("=")
        if not separator or not value.strip().lstrip("-").isdecimal():
            raise ConfigError(f"--{role}-name: expected VALUE=NAME such as 3=tumour, got {text!r}")
        if int(value) not in values:
            raise ConfigError(f"--{role}-name: expected one of the values {values} of the {role}, got {text!r}")
        given[int(value)] = name.strip()
    return given


def _report(
    images: list[Path],
    case: FileCase,
    found: Mapping[str, SegmentationValues],
    names: Mapping[str, Mapping[int, str]],
) -> dict[str, Any]:
    """The files and what they hold."""
    described: dict[str, Any] = {"images": [str(path) for path in images], REFERENCE: None, SEGMENTATION: None}
    for role, content in found.items():
        described[role] = {
            "path": str(content.path),
            "names_from": content.names_from,
            "values": [
                {"value": v.value, "name": names[role][v.value], "voxels": v.voxels, "ml": v.voxels * content.voxel_ml}
                for v in content.values
            ],
        }
    described["classes"] = [{"name": c.name, "colour": c.colour} for c in case.labels.foreground]
    return described


def _scores(compared: FileComparison | None) -> dict[str, Any]:
    if compared is None:
        return {"score": None, "mean_dice": None}
    scores = {"score": compared.score.to_json(), "mean_dice": compared.score.mean_dice}
    return scores if compared.findings is None else {**scores, "findings": compared.findings.to_json()}


def _score_table(compared: FileComparison) -> Iterator[str]:
    score = compared.score
    rows = [("class", "Dice", "surface Dice 1 mm", "HD95 mm", "ASD mm", "reference ml", "segmentation ml", "")]
    for name, dice in score.dice.items():
        volumes = score.volume_ml[name]
        rows.append(
            (
                name,
                number_cell(dice, 3),
                number_cell(score.surface_dice[name].get(tolerance_key(TOLERANCE_MM)), 3),
                number_cell(score.hd95_mm[name], 2),
                number_cell(score.asd_mm[name], 2),
                number_cell(volumes["truth"], 2),
                number_cell(volumes["prediction"], 2),
                "missed" if name in score.missed else "",
            )
        )
    rows.append(("mean", number_cell(score.mean_dice, 3), "", "", "", "", "", ""))
    yield from align_columns(rows)


def _table(
    case: FileCase, found: Mapping[str, SegmentationValues], names: Mapping[str, Mapping[int, str]]
) -> Iterator[str]:
    """The values of one segmentation."""
    ((role, content),) = found.items()
    rows = [("value", "class", "ml")]
    for v in content.values:
        rows.append((str(v.value), names[role][v.value], number_cell(v.voxels * content.voxel_ml, 2)))
    yield f"{case.id}: {role} {content.path.name}; scores need a reference and a segmentation"
    yield from align_columns(rows)
