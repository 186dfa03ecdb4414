"""``predict``: segment the images of one subject with a trained network; writes NIfTI in the geometry of the image."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from core.cli.arguments import add_images, add_json, add_model, add_progress
from core.cli.inference_options import add_inference_options, inference_overrides
from core.cli.options import AS_IN_TRAINING, add_data_options, data_options_from
from core.cli.output import check_output_file
from core.cli.progress import show_progress
from core.cli.values import image_channels
from core.compute.allocator import set_freed_memory_retention
from core.datasets.single_case import read_images
from core.errors import ConfigError, VolumeError
from core.formatting import format_number
from core.imaging.volume import write_label
from core.inference.ensemble_predictor import EnsemblePredictor, open_predictor
from core.inference.subject_image import SubjectImage
from core.inference.voxel_size import with_advice
from core.paths import checkpoints_root
from core.runs.models import find_models
from core.runs.predictions import in_percent
from core.strict_json import dumps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model(parser, ensembles=True)
    add_images(parser)
    parser.add_argument(
        "--channels",
        metavar="N,N",
        type=image_channels,
        help="for 4-D files: the channel to take from each IMAGE, counted from 1; an IMAGE may be named several times "
        "(default: one channel per IMAGE, or all of a single one in their order)",
    )
    parser.add_argument(
        "--out", metavar="SEG.nii.gz", type=Path, required=True, help="label map to write, .nii or .nii.gz"
    )
    parser.add_argument(
        "--disagreement",
        metavar="MAP.nii.gz",
        type=Path,
        help="for an ensemble: map to write of where its networks disagree, the share of their pairs in percent",
    )
    add_data_options(parser, ("nan_is_zero",), AS_IN_TRAINING)
    add_inference_options(parser)
    add_json(parser)
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Segment and write.

    Raises
    ------
    UserError
        If the checkpoint or an image cannot be used, or the result cannot be written; then no file is left.
    """
    check_output_file(args.out, (".nii", ".nii.gz"), VolumeError)
    started = time.monotonic()
    set_freed_memory_retention(True)
    predictor = open_predictor(find_models(checkpoints_root(args.checkpoints), args.run), inference_overrides(args))
    if args.disagreement is not None:
        check_output_file(args.disagreement, (".nii", ".nii.gz"), VolumeError)
        if not isinstance(predictor, EnsemblePredictor):
            raise ConfigError(f"--disagreement: expected an ensemble, got one network ({predictor.path}); leave it out")
    options = data_options_from(args, predictor.metadata.train_config.data)
    subject = read_images(args.images, predictor.modalities, args.channels or (), options.nan_is_zero)
    with show_progress("tiles", args.progress) as progress:
        unprocessed, disagreement = predictor.segment_with_disagreement(SubjectImage.of(subject), progress)
    prediction = predictor.postprocess(unprocessed, subject.geometry.spacing_mm)
    warnings, training = predictor.warnings(subject), predictor.expected.training
    labels = predictor.labels
    write_label(args.out, labels.to_raw(prediction), subject.stored, subject.first_image)
    if args.disagreement is not None and disagreement is not None:
        write_label(args.disagreement, in_percent(disagreement), subject.stored, subject.first_image)
    voxel_ml = subject.geometry.voxel_volume_mm3 / 1000
    counts = np.bincount(prediction.ravel(), minlength=len(labels))
    volumes_ml = {c.name: int(n) * voxel_ml for c, n in zip(labels.classes[1:], counts[1:], strict=True)}
    elapsed_s = round(time.monotonic() - started, 2)
    for warning in warnings:
        print(f"warning: {with_advice(warning)}", file=sys.stderr)
    if args.json:
        paths = [str(path) for path in args.images * len(predictor.modalities)]
        report = {
            "out": str(args.out),
            "disagreement": None if args.disagreement is None else str(args.disagreement),
            "checkpoint": str(predictor.path),
            "images": dict(zip(predictor.modalities, paths, strict=False)),
            "channels": args.channels,
            "volume_ml": volumes_ml,
            "labels": {c.name: c.raw for c in labels.classes},
            "nan_voxels": subject.nan_voxels,
            "remarks": [f"{path.name}: {text}" for path, text in subject.remarks],
            "warnings": warnings,
            "spacing_mm": subject.geometry.spacing_mm,
            "training_spacing_mm": None if training is None else training.to_json(),
            **predictor.settings(),
            "seconds": elapsed_s,
        }
        print(dumps(report))
        return 0
    volumes = ", ".join(f"{name} {format_number(volume_ml, 1)} ml" for name, volume_ml in volumes_ml.items())
    print(f"{args.out}: {volumes} ({elapsed_s:.1f} s)")
    if predictor.postprocessing:
        print(f"postprocessing: {predictor.postprocessing.text}")
    if subject.nan_voxels:
        print(f"note: {subject.nan_voxels} voxels that are NaN were read as 0", file=sys.stderr)
    for path, text in subject.remarks:
        print(f"note: {path}: {text}", file=sys.stderr)
    if not subject.stored.oriented:
        print("note: the image states no orientation, and neither does the segmentation", file=sys.stderr)
    return 0
