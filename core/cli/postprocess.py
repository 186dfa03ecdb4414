"""``postprocess``: show, choose or set the postprocessing that is stored with a model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.checkpointing.ensemble_metadata import read_members
from core.checkpointing.file_header import store_postprocessing
from core.checkpointing.metadata import POSTPROCESSING, CheckpointMetadata, read_metadata
from core.cli.arguments import add_device, add_json, add_layout, add_progress
from core.cli.kept_predictions import warn_of_training
from core.cli.options import model_data_options
from core.cli.progress import PARTS_PER_STEP, show_progress
from core.datasets import open_dataset
from core.errors import CheckpointError, ConfigError, RunError
from core.evaluation.held_out import held_out_cases
from core.evaluation.postprocessing_choice import Choice, choose_postprocessing
from core.formatting import format_count, format_list
from core.imaging.postprocessing import ClassRule, Postprocessing
from core.inference.ensemble_predictor import open_predictor
from core.inference.predictor import InferenceOverrides
from core.paths import checkpoints_root, dataset_folder, demo_model_path
from core.runs import get_run
from core.runs.models import find_model, find_models
from core.strict_json import dumps

FEW_SUBJECTS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN|FILE", help="a run, a checkpoint file or an ensemble")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--auto",
        action="store_true",
        help="choose for each class by the Dice of held-out subjects: only what improves the mean and costs no class "
        "or region; an ensemble segments each subject with the networks that were not trained on it",
    )
    how.add_argument("--none", action="store_true", help="no postprocessing")
    parser.add_argument("--largest", metavar="CLASS", nargs="+", default=(), help="keep the largest component alone")
    parser.add_argument(
        "--minimum", metavar="CLASS=ML", nargs="+", default=(), help="remove components below this volume in ml"
    )
    parser.add_argument("--fill-holes", metavar="CLASS", nargs="+", default=(), help="fill enclosed holes")
    parser.add_argument(
        "--decide-by",
        metavar="RUN|FILE",
        help="with --auto: decide by the held-out subjects of a group or of models joined by +; for a network that was "
        "trained on every subject, those of its cross-validation",
    )
    parser.add_argument("--data", help="with --auto: folder of the data set (default: that of the training)")
    add_layout(parser)
    add_device(parser)
    add_json(parser)
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Show, or decide and store.

    Raises
    ------
    UserError
        If the model or the data set cannot be used, or the file cannot be written; then the file is as before.
    """
    root = checkpoints_root(args.checkpoints)
    path = find_model(root, args.run)
    metadata = read_metadata(path)
    by_hand = _rules(args, metadata)
    if (args.largest or args.minimum or args.fill_holes) and not by_hand:
        raise ConfigError("--minimum: expected a volume above 0 ml; to remove all rules: --none")
    if args.decide_by and not args.auto:
        raise ConfigError("--decide-by: expected --auto with it; add it, or leave both out")
    choice = None
    if args.auto or args.none or by_hand:
        _check_changeable(root, path)
        postprocessing, decision = by_hand, {"by": "hand"}
        if args.auto:
            choice = _choose(args, find_models(root, args.decide_by) if args.decide_by else (path,), metadata)
            postprocessing, decision = choice.postprocessing, choice.to_json()
            if args.decide_by:
                decision["models"] = args.decide_by
        store_postprocessing(path, postprocessing, decision)
        metadata = metadata.with_postprocessing(postprocessing, decision)
    _report(args, path, metadata, choice)
    return 0


def _rules(args: argparse.Namespace, metadata: CheckpointMetadata) -> Postprocessing:
    """The rules of the options.

    Raises
    ------
    ConfigError
        If a class or volume is not valid, or the options exclude each other.
    """
    rules: dict[str, ClassRule] = {}

    def change(name: str, **values: Any) -> None:
        rules[name] = replace(rules.get(name, ClassRule()), **values)

    for name in args.largest:
        change(name, largest=True)
    for text in args.minimum:
        name, separator, volume = text.rpartition("=")
        try:
            volume_ml = float(volume)
        except ValueError:
            separator = ""
        if not separator:
            raise ConfigError(f"--minimum: expected a class and a volume in ml like GM=0.5, got {text!r}")
        change(name, minimum_ml=volume_ml)
    for name in args.fill_holes:
        change(name, fill_holes=True)
    if rules and (args.auto or args.none):
        raise ConfigError("expected --auto, --none, or rules per class; got several; choose one")
    postprocessing = Postprocessing(rules)
    postprocessing.check(metadata.label_space.names)
    return postprocessing


def _check_changeable(root: Path, path: Path) -> None:
    """Refuse a file that its run may replace, and the model that belongs to the program."""
    if path == demo_model_path():
        raise CheckpointError(f"{path}: it belongs to the program; change a copy: python -m core export")
    try:
        run = get_run(root, path.parent.name)
    except RunError:
        return
    changing = run.state.active or run.state.state == "queued"
    if changing and run.folder.absolute() == path.parent.absolute():
        raise RunError(
            f"{run.id}: it is {run.state.state} and may replace its checkpoint; wait for its end, or stop it"
        )


def _choose(args: argparse.Namespace, models: Sequence[Path], metadata: CheckpointMetadata) -> Choice:
    """Decide by the held-out subjects of the models.

    Raises
    ------
    UserError
        If the models have other classes, hold out no subject, or the data set cannot be used.
    """
    predictor = open_predictor(models, InferenceOverrides(device=args.device, postprocess=False))
    if predictor.labels.names != metadata.label_space.names:
        raise CheckpointError(
            f"--decide-by: expected models of the classes {format_list(metadata.label_space.names[1:])}, got "
            f"{format_list(predictor.labels.names[1:])}"
        )
    folder = args.data or predictor.metadata.dataset.get("path")
    if not folder:
        raise CheckpointError("--data: expected the folder of the data set, which the model does not state; give it")
    path = dataset_folder(folder)
    dataset = open_dataset(path, args.layout, model_data_options(args, predictor.metadata, path))
    for model in models:
        for member in read_members(model):
            held_out = [id for id in member.metadata.split.get("val", ()) if id in dataset.labelled_ids]
            warn_of_training(member.name, member.metadata.seen_in_training(path, held_out))
    with show_progress("subjects", args.progress, PARTS_PER_STEP) as progress:
        tested = metadata.split.get("test", ()) if metadata.is_training_data(path) else ()
        cases = held_out_cases(predictor, dataset, progress, tested)
    return choose_postprocessing(cases, predictor.labels.names, metadata.regions)


def _report(args: argparse.Namespace, path: Path, metadata: CheckpointMetadata, choice: Choice | None) -> None:
    stored: Mapping[str, Any] = metadata.inference.get(POSTPROCESSING, {})
    decision = choice.to_json() if choice is not None else dict(stored.get("decision") or {})
    if args.json:
        print(dumps({"checkpoint": str(path), "postprocessing": metadata.postprocessing.to_json(), **decision}))
        return
    if choice is not None:
        for name, decided in choice.classes.items():
            print(f"{name}: {decided.text}")
        few = "; these are few" if choice.subjects < FEW_SUBJECTS else ""
        print(f"by {format_count(choice.subjects, 'held-out subject')}{few}, whole volumes", file=sys.stderr)
    elif decision.get("by") == "auto":
        for name, dice in decision["dice"].items():
            by = format_count(decision["subjects"], "held-out subject")
            by += f" of {decision['models']}" if decision.get("models") else ""
            print(f"{name}: Dice {dice['before']:.4f} to {dice['after']:.4f} by {by}")
    print(f"{path}: postprocessing: {metadata.postprocessing.text}")
