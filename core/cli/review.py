"""``review``: the cases of a model, or files, outside of the browser: tables, files, figures, comparisons, notes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from core.cli import (
    review_calibration,
    review_compare,
    review_epochs,
    review_files,
    review_score,
    review_surfaces,
)
from core.cli.arguments import add_checkpoints, add_json, add_progress
from core.cli.help_format import HelpFormatter
from core.cli.kept_predictions import add_data_reading, add_kept_model, open_kept_model, warn_of_training
from core.cli.output import align_columns, check_output_file, number_cell, write_text
from core.cli.progress import PARTS_PER_STEP, show_progress
from core.cli.values import voxel_index
from core.datasets.layouts.base import natural_key
from core.datasets.loading import read_first_geometry
from core.errors import ConfigError, RunError, VolumeError
from core.evaluation.agreement import agreement, volumes_of
from core.evaluation.case_analysis import pool
from core.evaluation.slice_sheet import MAX_SLICES, PLANES, SheetOptions
from core.formatting import format_count, format_list, format_size
from core.paths import checkpoints_root
from core.runs.store.review_notes import MARKS

SHEETS = (".png", ".pdf")
MAPS = (".nii", ".nii.gz")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their arguments."""
    add_json(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=help, description=help, formatter_class=HelpFormatter)
        action.set_defaults(run_action=run)
        add_checkpoints(action, nested=True)
        add_json(action, nested=True)
        return action

    cases = add("cases", _cases, "write all measures of all classes of the kept segmentations as CSV")
    add_kept_model(cases)
    cases.add_argument("--out", metavar="FILE.csv", type=Path, help="file to write (default: standard output)")
    export = add("export", _export, "write prediction, errors or a contact sheet of a kept segmentation")
    add_kept_model(export)
    export.add_argument("subject", metavar="SUBJECT", help="id of a subject whose segmentation is kept")
    export.add_argument(
        "--prediction", metavar="P.nii.gz", type=Path, help="label map to write, in the image's geometry"
    )
    export.add_argument(
        "--errors",
        metavar="E.nii.gz",
        type=Path,
        help="map of the errors to write, in the image's geometry: 0 none, 1 false positive, 2 false negative, 3 wrong "
        "class",
    )
    export.add_argument(
        "--sheet", metavar="S.png|S.pdf", type=Path, help="contact sheet to write: slices with the overlay on one page"
    )
    export.add_argument("--plane", choices=list(PLANES), default="axial", help="plane of the contact sheet")
    export.add_argument(
        "--slices", metavar="N", type=int, default=12, help=f"slices on the contact sheet, 1 to {MAX_SLICES}"
    )
    export.add_argument("--modality", metavar="NAME", help="modality on the contact sheet (default: the first one)")
    analyse = add(
        "analyse", _analyse, "count over whole volumes which class was taken for which, and how far errors lie"
    )
    add_kept_model(analyse)
    add_progress(analyse)
    review_calibration.add_arguments(add("calibration", review_calibration.run, review_calibration.HELP))
    review_epochs.add_arguments(add("epochs", review_epochs.run, review_epochs.HELP))
    review_files.add_arguments(add("files", review_files.run, review_files.HELP))
    review_surfaces.add_arguments(add("surfaces", review_surfaces.run, review_surfaces.HELP))
    review_compare.add_arguments(add("compare", review_compare.run, review_compare.HELP))
    review_score.add_arguments(add("score", review_score.run, review_score.HELP))
    note = add("note", _note, "write a note on a case of a model")
    add_kept_model(note)
    note.add_argument("subject", metavar="SUBJECT", help="id of the case")
    note.add_argument("--mark", choices=MARKS, default="", help="what is to be done with the segmentation")
    note.add_argument("--comment", metavar="TEXT", default="", help="a comment")
    note.add_argument(
        "--at",
        metavar="I,J,K",
        type=voxel_index,
        help="voxel that the note is about, in RAS order, counted from 1 as on the page Review",
    )
    notes = add("notes", _notes, "list the notes on the cases of all models, or of one model and data set")
    notes.add_argument("run", metavar="RUN|FILE", nargs="?", help="only of this model")
    notes.add_argument("data", metavar="DATA", nargs="?", help="folder of its data set, or 'demo'")
    add_data_reading(notes)
    notes.add_argument("--mark", choices=MARKS, help="only notes with this mark")
    notes.add_argument("--out", metavar="FILE.csv|FILE.json", type=Path, help="file to write, as CSV or JSON")


def run(args: argparse.Namespace) -> int:
    """Run one of the sub-commands.

    Raises
    ------
    UserError
        If a model, a data set or a file cannot be used.
    """
    checkpoints_root(args.checkpoints)
    return int(args.run_action(args))


def _cases(args: argparse.Namespace) -> int:
    from core.runs.case_table import case_table_csv
    from core.strict_json import dumps

    if args.out is not None:
        check_output_file(args.out, (".csv",), RunError)
    model = open_kept_model(args)
    subjects = sorted(model.predictions, key=natural_key)
    if not subjects:
        raise RunError(f"{args.run}: expected kept segmentations, found none; make them: {model.evaluate} --keep")
    scores = {id: model.predictions[id].score for id in subjects}
    trained_on = model.trained_on([id for id, score in scores.items() if score is not None])
    warn_of_training(model.name, trained_on)
    if args.json:
        described = [{"id": id, "score": s and s.to_json()} for id, s in scores.items()]
        print(dumps({"subjects": described, "trained_on": trained_on}))
        return 0
    table = case_table_csv(model.predictions, subjects)
    if args.out is None:
        print(table, end="")
    else:
        write_text(args.out, table, RunError)
    return 0


def _export(args: argparse.Namespace) -> int:
    from core.runs.case_export import CaseFiles, export_case
    from core.strict_json import dumps

    wanted = {"prediction": (args.prediction, MAPS), "errors": (args.errors, MAPS), "sheet": (args.sheet, SHEETS)}
    if not any(path for path, _ in wanted.values()):
        raise ConfigError("expected a file to write: --prediction, --errors or --sheet")
    for path, endings in wanted.values():
        if path is not None:
            check_output_file(path, endings, VolumeError)
    model = open_kept_model(args)
    modalities = model.dataset.modalities
    if args.modality is not None and args.modality not in modalities:
        raise ConfigError(f"--modality: expected one of {format_list(modalities)}, got {args.modality!r}")
    channel = 0 if args.modality is None else modalities.index(args.modality)
    paths = CaseFiles(args.prediction, args.errors, args.sheet, SheetOptions(args.plane, args.slices, channel))
    export_case(model.dataset, model.metadata.label_space, model.prediction(args.subject), model.name, paths)
    written = {name: str(path) for name, (path, _) in wanted.items() if path is not None}
    print(dumps(written) if args.json else "\n".join(written.values()))
    return 0


def _analyse(args: argparse.Namespace) -> int:
    from core.runs.kept_analyses import analyse_kept
    from core.strict_json import dumps

    model = open_kept_model(args)
    scored = {id: kept for id, kept in model.predictions.items() if kept.score is not None}
    if not scored:
        raise RunError(f"{args.run}: expected kept segmentations, found none; make them: {model.evaluate} --keep")
    with show_progress("cases", args.progress, PARTS_PER_STEP) as progress:
        found = analyse_kept(model.dataset, model.metadata.label_space, model.predictions, progress)
    for id, reason in found.failures.items():
        print(f"warning: {id}: {reason}", file=sys.stderr)
    if found.outdated:
        print(f"warning: left out, outdated: {format_list(found.outdated)}", file=sys.stderr)
    trained_on = model.trained_on(list(found.cases))
    warn_of_training(model.name, trained_on, len(found.cases))
    if args.json:
        cases = {id: analysis.to_json() for id, analysis in found.cases.items()}
        described = {"cases": cases, "failures": found.failures, "outdated": list(found.outdated)}
        print(dumps({**described, "trained_on": trained_on}))
        return 0 if found.cases else 1
    pooled = pool(found.cases.values())
    if pooled is None:
        raise RunError(f"{args.run}: expected segmentations that can be compared, found none; see the warnings")
    print(f"{format_count(len(found.cases), 'case')}, voxels of the whole volumes, in % of each class of the reference")
    rows = [("reference", *(f"> {name}" for name in pooled.classes), "voxels")]
    for name, shares, voxels in zip(pooled.classes, pooled.confusion_percent, pooled.confusion, strict=True):
        rows.append((name, *(number_cell(float(share), 2) for share in shares), str(int(voxels.sum()))))
    print("\n".join(align_columns(rows)))
    scores = {id: kept.score for id, kept in scored.items() if kept.score is not None and id in found.cases}
    for name in pooled.classes[1:]:
        volumes = volumes_of(scores, name).values()
        limits = agreement([truth for truth, _ in volumes], [prediction for _, prediction in volumes])
        print(
            f"{name}: volume {number_cell(limits.bias, 2)} ml from the reference on average, limits of agreement "
            f"{number_cell(limits.lower, 2)} to {number_cell(limits.upper, 2)} ml (n = {limits.n})"
        )
    return 0


def _note(args: argparse.Namespace) -> int:
    from core.runs.review_notes import NewNote, NotedModel, notes_json
    from core.strict_json import dumps

    model = open_kept_model(args)
    shape = read_first_geometry(model.dataset, model.dataset.subject(args.subject)).canonical.shape
    if args.at is not None and any(n >= size for n, size in zip(args.at, shape, strict=True)):
        raise ConfigError(f"--at: expected a voxel of {format_size(shape, ' x ')}, got one outside of them")
    kept = model.predictions.get(args.subject)
    new = NewNote(args.subject, args.mark, args.comment, args.at, 0 if kept is None else kept.epoch)
    written = NotedModel(model.root, model.checkpoint, model.dataset.path).add(new)
    print(dumps(notes_json([written])[0]) if args.json else written.id)
    return 0


def _notes(args: argparse.Namespace) -> int:
    from core.runs.review_notes import NotedModel, all_notes, notes_csv, notes_json
    from core.strict_json import dumps

    if args.out is not None:
        check_output_file(args.out, (".csv", ".json"), RunError)
    if args.run is not None and args.data is None:
        raise ConfigError(f"expected a data set behind the model {args.run}; or neither, for all notes")
    if args.run is None:
        found = all_notes(checkpoints_root(args.checkpoints))
    else:
        model = open_kept_model(args)
        found = NotedModel(model.root, model.checkpoint, model.dataset.path).notes()
    found = [note for note in found if args.mark in (None, note.mark)]
    as_json = dumps({"notes": notes_json(found)})
    if args.out is not None:
        write_text(args.out, notes_csv(found) if args.out.suffix == ".csv" else as_json, RunError)
    elif args.json:
        print(as_json)
    elif not found:
        print("no notes")
    else:
        rows = [("model", "case", "mark", "voxel", "comment")]
        for note in found:
            place = "-" if note.voxel is None else ",".join(str(n + 1) for n in note.voxel)
            rows.append((note.model, note.subject, note.mark or "-", place, " ".join(note.comment.split()) or "-"))
        print("\n".join(align_columns(rows, left=5)))
    return 0
