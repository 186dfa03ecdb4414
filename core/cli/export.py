"""``export``: write a trained model as one small file to share - its weights and description, no training state."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from core.checkpointing.checkpoint import for_sharing, load, save
from core.cli import checkpoints_root
from core.errors import CheckpointError
from core.formatting import format_bytes
from core.runs import find_checkpoint
from core.strict_json import dumps


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", metavar="RUN|FILE", help="a run (its best checkpoint, else its last), or a checkpoint file"
    )
    parser.add_argument("--out", metavar="FILE.safetensors", type=Path, required=True, help="file to write")
    parser.add_argument("--json", action="store_true", help="report as JSON on standard output")


def run(args: argparse.Namespace) -> int:
    """Read, leave out what only training needs, write.

    Raises
    ------
    UserError
        If the checkpoint cannot be used, or the file cannot be written; then nothing is.
    """
    path = find_checkpoint(checkpoints_root(args.checkpoints), args.run)
    _check_out(args.out, path)
    checkpoint = for_sharing(load(path))
    save(args.out, checkpoint)
    about, size = checkpoint.description, args.out.stat().st_size
    parameters = sum(tensor.numel() for tensor in checkpoint.model.values())
    if args.json:
        print(
            dumps(
                {
                    "out": str(args.out), "checkpoint": str(path), "bytes": size, "parameters": parameters,
                    "modalities": about.modalities, "classes": about.label_space.names[1:],
                    "epoch": about.progress.get("epoch"), "dataset": about.dataset, "split": about.split,
                }
            )
        )  # fmt: skip
        return 0
    print(
        f"{args.out}: {format_bytes(size)}, {parameters:,} numbers; {', '.join(about.modalities)} to "
        f"{', '.join(about.label_space.names[1:])}"
    )
    return 0


def _check_out(out: Path, source: Path) -> None:
    if not out.name.lower().endswith(".safetensors"):
        raise CheckpointError(f"{out}: expected a name ending in .safetensors to write to")
    if not out.absolute().parent.is_dir():
        raise CheckpointError(
            f"{out}: expected a folder that exists to write to, found none at {out.absolute().parent}"
        )
    if out.exists() and os.path.samefile(out, source):
        raise CheckpointError(f"{out}: expected another file to write to than the checkpoint itself")
