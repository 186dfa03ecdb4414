"""``check``: the data doctor; exit status 1 where training would be unsafe."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from core.cli.arguments import add_data, add_json, add_layout, add_progress
from core.cli.auto_preset import chosen_lines
from core.cli.options import add_data_options, data_options_from
from core.cli.output import align_columns, write_text
from core.cli.progress import show_progress
from core.datasets.contact_sheet import SHEET, write_contact_sheet
from core.datasets.dataset_json import write_description
from core.datasets.doctor import check
from core.datasets.doctor_report import DoctorReport
from core.datasets.layouts.recipe import REPAIRS, Recipe
from core.datasets.recognition import layout_title
from core.datasets.registry import open_dataset
from core.datasets.repairs import suggested
from core.datasets.saved_recipes import add_repairs, recipe_file, save_recipe, saved_recipe
from core.datasets.subject_facts import SubjectFacts
from core.errors import DatasetError
from core.formatting import format_count, format_number, format_size
from core.paths import dataset_folder
from core.strict_json import dumps

REPORT = "report.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_data(parser, "folder of the data set")
    add_layout(parser)
    add_data_options(parser)
    add_json(parser)
    add_progress(parser)
    parser.add_argument(
        "--write-description",
        action="store_true",
        help="first write a dataset.json for a folder that has none: images and label maps, found by their names, and "
        "a class for each label value, to be renamed",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="check, add what mends its problems to the recipe of the data set, check again; files stay as they are",
    )
    parser.add_argument(
        "--rename",
        metavar="VALUE=NAME",
        action="append",
        default=[],
        help="first name the class of a label value in the recipe",
    )
    parser.add_argument("--forget-repairs", action="store_true", help="first remove the recipe of the data set")
    parser.add_argument(
        "--thumbnails",
        metavar="DIR",
        type=Path,
        help=f"write a picture of each subject (<id>.png), all of them on one ({SHEET}) and the report ({REPORT}) into "
        "this folder",
    )


def run(args: argparse.Namespace) -> int:
    """Check and report.

    Raises
    ------
    DatasetError
        If the memory does not suffice, or pictures and report cannot be written.
    """
    if args.write_description:
        print(f"written: {write_description(Path(args.data))}", file=sys.stderr)
    folder = dataset_folder(args.data)
    if args.forget_repairs:
        save_recipe(folder, Recipe())
    if args.rename:
        _rename(args, folder)
    try:
        report = _check(args)
        repairs = suggested(report.findings) if args.repair else []
        if repairs:
            file = recipe_file(folder)
            print(f"recipe: {'; '.join(add_repairs(folder, repairs).lines())} ({file})", file=sys.stderr)
            report = _check(args)
    except MemoryError:
        raise DatasetError(
            f"{args.data}: expected enough free memory to read it, got too little; close other programs"
        ) from None
    if args.thumbnails is not None:
        _write_report(args.thumbnails, report)
    if args.json:
        print(dumps(report.to_json(), indent=2))
    elif report.dataset is not None:
        print("\n".join(_text(report)))
        if report.ok and report.dataset.labelled_ids:
            print("\n".join(["", *chosen_lines(args.data, args.layout, data_options_from(args))]))
    if report.ok:
        return 0
    errors = report.with_severity("error")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    print(f"error: {' '.join(errors[0].line.split())}{more}", file=sys.stderr)
    return 1


def _check(args: argparse.Namespace) -> DoctorReport:
    with show_progress("subjects", args.progress) as progress:
        return check(args.data, args.layout, progress, args.thumbnails, data_options_from(args))


def _rename(args: argparse.Namespace, folder: Path) -> None:
    """Name classes in the recipe, unless no class has the value, or two would have one name: such a recipe could not be
    used."""
    given = dict(map(_renaming, args.rename))
    labels = open_dataset(folder, args.layout, data_options_from(args)).labels
    if unknown := [str(value) for value in given if value not in labels.raw_values]:
        known = ", ".join(map(str, labels.raw_values))
        raise DatasetError(f"--rename: expected label values out of {known}; got {', '.join(unknown)}")
    names = [given.get(c.raw, c.name) for c in labels.classes]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DatasetError(f"--rename: expected another name for each class, got {twice[0]!r} for two of them")
    recipe = saved_recipe(folder)
    save_recipe(folder, replace(recipe, renamed={**recipe.renamed, **given}))


def _renaming(text: str) -> tuple[int, str]:
    """Label value and name of ``VALUE=NAME``."""
    value, separator, name = text.partition("=")
    try:
        if separator and name.strip():
            return int(value), name.strip()
    except ValueError:
        pass
    raise DatasetError(f"--rename: expected a label value and a name, such as 2=lesion, got {text!r}")


def _write_report(folder: Path, report: DoctorReport) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written: {error.strerror or error}; choose another place") from error
    pictures = [(facts.id, folder / facts.thumbnail) for facts in report.subjects if facts.thumbnail]
    if pictures:
        write_contact_sheet(folder / SHEET, pictures)
    write_text(folder / REPORT, dumps(report.to_json()), DatasetError)


def _text(report: DoctorReport) -> Iterator[str]:
    dataset = report.dataset
    assert dataset is not None
    synthetic = ", synthetic" if dataset.synthetic else ""
    subjects = format_count(len(dataset.subjects), "subject")
    yield f"{dataset.name}: {subjects}, {layout_title(dataset.layout)} layout{synthetic}"
    if dataset.reason:
        yield f"layout {dataset.layout}: {dataset.reason}"
    ignore = dataset.labels.ignore
    left_out = f"; left out: {ignore.name}" if ignore is not None else ""
    yield f"images: {', '.join(dataset.modalities)}; classes: {', '.join(dataset.labels.names)}{left_out}"
    yield ""
    classes = dataset.labels.names[1:]
    header = ("subject", "shape", "spacing mm", "axes", *(f"{name} %" for name in classes))
    yield from align_columns([header, *(_row(facts, classes) for facts in report.subjects)])
    yield ""
    for finding in report.findings:
        mended = " [--repair: " + REPAIRS[finding.repairs[0].kind].title.lower() + "]" if finding.repairs else ""
        yield f"{finding.severity}: {finding.line}{mended}"
    if report.ok:
        warnings = len(report.with_severity("warning"))
        yield "ready for training" + (f", with {format_count(warnings, 'warning')}" if warnings else "")
    else:
        yield f"not ready for training: {format_count(len(report.with_severity('error')), 'error')}"


def _row(facts: SubjectFacts, classes: tuple[str, ...]) -> tuple[str, ...]:
    shape = format_size(facts.shape) if facts.shape else "-"
    spacing = format_size(facts.spacing_mm) if facts.spacing_mm else "-"
    shares = (format_number(100 * facts.label_shares[c], 2) if c in facts.label_shares else "-" for c in classes)
    return facts.id, shape, spacing, facts.orientation or "-", *shares
