"""``ensemble``: write several trained networks as one model, whose class probabilities are averaged."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from core.checkpointing.ensemble import save_ensemble
from core.checkpointing.ensemble_metadata import Member, read_members
from core.cli.arguments import add_json
from core.cli.output import check_output_file
from core.errors import CheckpointError
from core.formatting import format_bytes, format_list
from core.paths import checkpoints_root
from core.runs.models import ENSEMBLES, SUFFIX, find_models
from core.runs.store import folder as files
from core.strict_json import dumps

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "runs",
        metavar="RUN|FILE",
        nargs="+",
        help="runs (their best checkpoints, else the last ones), groups of runs, checkpoint files or ensembles, for "
        "the same classes and modalities; networks, voxel sizes and sub-volumes may differ",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--out", metavar="FILE.safetensors", type=Path, help="file to write")
    target.add_argument(
        "--name",
        help="name of the model among the ensembles of the checkpoints root, where Review, Predict and Quiz find it "
        "(default without --out: ensemble-1, ensemble-2, ...)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the ensemble.

    Raises
    ------
    UserError
        If the networks do not fit together or cannot be used, or the file cannot be written; then no file is left.
    """
    root = checkpoints_root(args.checkpoints)
    members = [member for text in args.runs for path in find_models(root, text) for member in read_members(path)]
    path = args.out if args.out is not None else _named_file(root, args.name)
    check_output_file(path, (SUFFIX,), CheckpointError)
    metadata = save_ensemble(path, members)
    held_out = [*metadata.split["test"], *metadata.split["val"]]
    if args.json:
        report = {
            "out": str(path),
            "bytes": path.stat().st_size,
            "members": [_member_report(member) for member in members],
            "modalities": metadata.modalities,
            "classes": metadata.label_space.names[1:],
            "split": metadata.split,
            "postprocessing": metadata.postprocessing.to_json(),
        }
        print(dumps(report))
        return 0
    modalities, classes = ", ".join(metadata.modalities), ", ".join(metadata.label_space.names[1:])
    print(f"{path}: {format_bytes(path.stat().st_size)}, {len(members)} networks; {modalities} to {classes}")
    if held_out:
        print(f"held out by all of them: {format_list(held_out)}")
    else:
        print("no subject was held out by all of them: score it on other data, with evaluate --split all")
    if metadata.postprocessing:
        print(f"postprocessing, as of its networks: {metadata.postprocessing.text}")
    elif any(member.metadata.postprocessing for member in members):
        print("the postprocessing of its networks differs and is left out; choose one: postprocess --auto")
    return 0


def _named_file(root: Path, name: str | None) -> Path:
    """The file of a new ensemble of the checkpoints root.

    Raises
    ------
    CheckpointError
        If the name is not allowed or taken, or the folder cannot be made.
    """
    folder = root / ENSEMBLES
    if name is not None and not NAME.fullmatch(name):
        raise CheckpointError(f"--name: expected letters, digits, '.', '_' and '-', at most 80, got {name!r}")
    if any(name in (run.name, files.read_name(run)) for run in files.run_folders(root)):
        raise CheckpointError(f"--name: expected a name that no run has, got {name!r}; choose another one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be created: {error.strerror or error}") from error
    if name is None:
        number = 1
        while (folder / f"ensemble-{number}{SUFFIX}").exists():
            number += 1
        name = f"ensemble-{number}"
    path = folder / f"{name}{SUFFIX}"
    if os.path.lexists(path):
        raise CheckpointError(f"--name: expected a new name, {path} exists; choose another one, or delete the file")
    return path


def _member_report(member: Member) -> dict[str, object]:
    metadata = member.metadata
    return {"name": member.name, "checkpoint": str(member.path), "epoch": metadata.progress.get("epoch")}
