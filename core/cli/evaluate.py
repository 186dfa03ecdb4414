"""``evaluate``: score a trained network on whole volumes of a data set; keep the segmentations on request."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core.checkpointing.metadata import UNKNOWN_FOLDER, CheckpointMetadata, may_be_training_subjects
from core.cli.arguments import add_data, add_json, add_layout, add_model, add_progress
from core.cli.inference_options import add_inference_options, inference_overrides, note_left_out_postprocessing
from core.cli.kept_predictions import warn_of_training
from core.cli.options import AS_IN_TRAINING, add_data_options, model_data_options
from core.cli.output import align_columns, number_cell
from core.cli.progress import PARTS_PER_STEP, show_progress
from core.compute.allocator import set_freed_memory_retention
from core.datasets import Dataset, open_dataset
from core.errors import ConfigError
from core.evaluation.evaluate import SPLITS, Evaluation, evaluate
from core.evaluation.metrics import MeanScore, SubjectScore
from core.evaluation.subject_prediction import SubjectPrediction
from core.formatting import format_list
from core.inference.ensemble_predictor import open_predictor
from core.inference.voxel_size import with_advice
from core.paths import checkpoints_root, dataset_folder
from core.runs.models import JOIN, find_model, find_models
from core.runs.predictions import predictions_folder, save_prediction
from core.strict_json import dumps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model(parser, ensembles=True)
    add_data(parser)
    add_layout(parser)
    add_data_options(parser, default=AS_IN_TRAINING)
    selection = parser.add_mutually_exclusive_group()
    selection.add_argument(
        "--split",
        choices=SPLITS,
        help="subjects by their role in the run, or all of them (default: test, or val where the run has no test "
        "subjects)",
    )
    selection.add_argument(
        "--subject",
        action="append",
        metavar="ID",
        help="this subject instead of a split; may be given several times",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep segmentations and scores in the run's folder, for the pages Review and Quiz; a subject without a "
        "label map is then segmented too",
    )
    parser.add_argument(
        "--maps",
        action="store_true",
        help="with --keep: keep maps of the uncertainty and of the probability of each class, too, for the page Review",
    )
    add_inference_options(parser)
    add_json(parser)
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Score and report.

    Raises
    ------
    UserError
        If checkpoint and data set do not fit together, or a file cannot be used.
    """
    root = checkpoints_root(args.checkpoints)
    if args.maps and not args.keep:
        raise ConfigError("--maps: expected --keep beside it, since maps are kept with the segmentations; add it")
    files = (find_model(root, args.run, "--keep"),) if args.keep else find_models(root, args.run)
    checkpoint = files[0]
    set_freed_memory_retention(True)
    predictor = open_predictor(files, replace(inference_overrides(args), maps=args.maps))
    note_left_out_postprocessing(predictor, args)
    folder = dataset_folder(args.data)
    dataset = open_dataset(folder, args.layout, model_data_options(args, predictor.metadata, folder))
    subjects = args.subject or []
    _note_other_data(predictor.metadata, dataset, subjects or (dataset.labelled_ids if args.split == "all" else None))
    folder = predictions_folder(root, checkpoint, dataset.path)

    def keep(result: SubjectPrediction) -> None:
        save_prediction(folder, predictor.metadata, dataset, result)

    with show_progress("subjects", args.progress, PARTS_PER_STEP) as progress:
        evaluation = evaluate(
            predictor, dataset, args.split, progress, subjects=subjects, on_prediction=keep if args.keep else None
        )
    for text, ids in _subjects_by_warning(evaluation).items():
        print(f"warning: {format_list(ids)}: {with_advice(text)}", file=sys.stderr)
    if evaluation.trained_on and args.split != "train":
        warn_of_training("the model", evaluation.trained_on, len(evaluation.subjects))
    if evaluation.may_be_trained_on:
        print(f"note: {may_be_training_subjects('the model', evaluation.may_be_trained_on)}", file=sys.stderr)
    if args.json:
        ids = [file.parent.name if file.parent.joinpath("run.json").is_file() else str(file) for file in files]
        report = {
            **evaluation.to_json(JOIN.join(ids)),
            "checkpoint": JOIN.join(map(str, files)),
            "data": str(dataset.path),
            "nan_is_zero": dataset.nan_is_zero,
            **predictor.settings(),
        }
        if args.keep:
            report["kept"] = str(folder)
        print(dumps(report))
        return 0
    synthetic = ", synthetic data" if dataset.synthetic else ""
    print(
        f"{JOIN.join(map(str, files))}: {evaluation.split} subjects of {dataset.name}{synthetic}, whole volumes, "
        f"n = {len(evaluation.subjects)}"
    )
    if evaluation.subjects:
        print("\n".join([*_dice_table(evaluation), "", *_class_table(evaluation)]))
    if (unprocessed := evaluation.unprocessed_mean) is not None:
        values = ", ".join(f"{name} {number_cell(unprocessed.dice[name])}" for name in evaluation.classes)
        print(f"postprocessing: {predictor.postprocessing.text}; Dice without it: {values}")
    if evaluation.unscored:
        print(f"segmented without a label map to score with: {', '.join(evaluation.unscored)}")
    if args.keep:
        print(f"kept in {folder}")
    return 0


def _note_other_data(metadata: CheckpointMetadata, dataset: Dataset, subjects: Sequence[str] | None) -> None:
    """Remark that a data set is not that of the training, where its subjects have names of the training: those of a
    split of the run (``None``), or given ones."""
    folders = [folder for folder in metadata.training_subjects if folder != UNKNOWN_FOLDER]
    if not folders or any(Path(folder).resolve() == dataset.path.resolve() for folder in folders):
        return
    if subjects is None:
        text = "subjects of the same name here are taken to be the same"
    else:
        trained = set(metadata.split.get("train", ()))
        same = [id for id in subjects if id in trained]
        if not same:
            return
        text = f"if {format_list(same)} here are its training subjects of the same name, their scores are too good"
    print(f"note: the run trained on {format_list(folders)}; {text}", file=sys.stderr)


def _subjects_by_warning(evaluation: Evaluation) -> dict[str, list[str]]:
    """Ids of the subjects by the text of a warning."""
    subjects: dict[str, list[str]] = {}
    for id, texts in evaluation.warnings.items():
        for text in texts:
            subjects.setdefault(text, []).append(id)
    return subjects


def _dice_table(evaluation: Evaluation) -> list[str]:
    """Dice of each subject and their mean."""
    classes = evaluation.classes
    rows = [("subject", *(f"Dice {name}" for name in classes), "mean")]
    rows += [_dice_row(id, score, classes) for id, score in evaluation.subjects.items()]
    rows.append(_dice_row("mean", evaluation.mean, classes))
    return align_columns(rows)


def _class_table(evaluation: Evaluation) -> list[str]:
    """Means of all measures for each class."""
    mean = evaluation.mean
    rows = [("class", "Dice", "HD95 mm", "ASD mm", "n", "missed")]
    for name in evaluation.classes:
        distances = number_cell(mean.hd95_mm[name], 2), number_cell(mean.asd_mm[name], 2)
        rows.append((name, number_cell(mean.dice[name]), *distances, str(mean.n[name]), str(mean.missed[name])))
    return align_columns(rows)


def _dice_row(title: str, score: SubjectScore | MeanScore, classes: Sequence[str]) -> tuple[str, ...]:
    return (title, *(number_cell(score.dice[name]) for name in classes), number_cell(score.mean_dice))
