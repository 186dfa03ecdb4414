"""``features``: write the feature maps of a trained network as pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.cli.arguments import add_device, add_images, add_json, add_model, add_progress
from core.cli.options import AS_IN_TRAINING, add_data_options, data_options_from
from core.cli.progress import show_progress
from core.cli.values import size_in_voxels
from core.datasets.single_case import read_images
from core.formatting import format_size
from core.inference.predictor import InferenceOverrides, Predictor
from core.inspection.feature_maps import write_feature_maps
from core.paths import checkpoints_root
from core.runs import find_checkpoint
from core.strict_json import dumps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model(parser)
    add_images(parser)
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        required=True,
        help="folder for pictures and manifest.json; made if missing",
    )
    parser.add_argument(
        "--sub-volume",
        metavar="IxJxK",
        type=size_in_voxels,
        help="size of the sub-volume at the centre of the head (default: as in training)",
    )
    add_data_options(parser, ("nan_is_zero",), AS_IN_TRAINING)
    add_device(parser)
    add_progress(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compute and write.

    Raises
    ------
    UserError
        If the checkpoint or an image cannot be used, or the folder cannot be written.
    """
    checkpoint = find_checkpoint(checkpoints_root(args.checkpoints), args.run)
    predictor = Predictor(checkpoint, InferenceOverrides(device=args.device))
    options = data_options_from(args, predictor.metadata.train_config.data)
    subject = read_images(args.images, predictor.modalities, nan_is_zero=options.nan_is_zero)
    with show_progress("stages", args.progress) as progress:
        manifest = write_feature_maps(args.out, predictor, subject, args.sub_volume, progress)
    for warning in manifest["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if args.json:
        print(dumps(manifest))
        return 0
    stages, size = manifest["stages"], format_size(manifest["sub_volume"]["size"])
    maps = sum(len(stage["maps"]) for stage in stages)
    print(f"{args.out}: {maps} maps of {len(stages)} stages, from a sub-volume of {size} voxels")
    return 0
