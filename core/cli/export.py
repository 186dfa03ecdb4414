"""``export``: write a trained model as one small file to share: weights and metadata, no training state."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from core.checkpointing.checkpoint import load, save, strip_for_sharing
from core.checkpointing.ensemble import share_ensemble
from core.checkpointing.ensemble_metadata import is_ensemble
from core.checkpointing.metadata import read_metadata
from core.cli.arguments import add_json, add_model
from core.cli.output import check_output_file
from core.errors import CheckpointError
from core.formatting import format_bytes
from core.paths import checkpoints_root
from core.runs.models import find_model
from core.strict_json import dumps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model(parser, ensembles=True)
    parser.add_argument("--out", metavar="FILE.safetensors", type=Path, required=True, help="file to write")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the model without training state.

    Raises
    ------
    UserError
        If the checkpoint cannot be used, or the file cannot be written; then no file is left.
    """
    source = find_model(checkpoints_root(args.checkpoints), args.run)
    check_output_file(args.out, (".safetensors",), CheckpointError)
    if os.path.exists(args.out) and os.path.samefile(args.out, source):
        raise CheckpointError(f"{args.out}: expected another file to write to than the checkpoint itself")
    if is_ensemble(read_metadata(source)):
        metadata, parameters = share_ensemble(source, args.out)
    else:
        checkpoint = strip_for_sharing(load(source))
        save(args.out, checkpoint)
        metadata = checkpoint.metadata
        parameters = sum(tensor.numel() for tensor in checkpoint.model.values())
    size_bytes = args.out.stat().st_size
    if args.json:
        report = {
            "out": str(args.out),
            "checkpoint": str(source),
            "bytes": size_bytes,
            "parameters": parameters,
            "modalities": metadata.modalities,
            "classes": metadata.label_space.names[1:],
            "epoch": metadata.progress.get("epoch"),
            "dataset": metadata.dataset,
            "split": metadata.split,
        }
        print(dumps(report))
        return 0
    modalities, classes = ", ".join(metadata.modalities), ", ".join(metadata.label_space.names[1:])
    print(f"{args.out}: {format_bytes(size_bytes)}, {parameters:,} parameters; {modalities} to {classes}")
    return 0
