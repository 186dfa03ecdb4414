"""``features``: what a trained network computes inside, as pictures: the feature maps of every stage of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.cli import checkpoints_root
from core.cli.places import sub_volume
from core.cli.progress import add_progress, progress
from core.datasets.single_case import read_images
from core.inference.predictor import Choices, Predictor
from core.inspection.feature_maps import write_features
from core.runs import find_checkpoint
from core.strict_json import dumps


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", metavar="RUN|FILE", help="a run (its best checkpoint, else its last), or a checkpoint file"
    )
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", type=Path,
        help="one file per modality in the order the network was trained with, or one 4-D file with all of them",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        required=True,
        help="folder for pictures and manifest.json; made if missing",
    )
    parser.add_argument(
        "--sub-volume", metavar="IxJxK", type=sub_volume, default=argparse.SUPPRESS,
        help="size of the sub-volume around the middle of the head (default: as in training)",
    )  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="where to compute")
    add_progress(parser)
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON, nothing else")


def run(args: argparse.Namespace) -> int:
    """Compute and write.

    Raises
    ------
    UserError
        If the checkpoint or an image cannot be used, or the folder cannot be written.
    """
    segmenter = Predictor(find_checkpoint(checkpoints_root(args.checkpoints), args.run), Choices(device=args.device))
    subject = read_images(args.images, segmenter.modalities)
    with progress("stages", args.progress) as show:
        manifest = write_features(args.out, segmenter, subject, getattr(args, "sub_volume", None), show)
    if args.json:
        print(dumps(manifest))
        return 0
    stages, size = manifest["stages"], "x".join(map(str, manifest["sub_volume"]["size"]))
    pictures = sum(len(stage["maps"]) for stage in stages)
    print(f"{args.out}: {pictures} maps of {len(stages)} stages, from a sub-volume of {size} voxels")
    return 0
