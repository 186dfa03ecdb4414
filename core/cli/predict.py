"""``predict``: segment the images of one subject with a trained network; writes NIfTI in the geometry of the image."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.cli.arguments import add_images, add_json, add_model, add_progress
from core.cli.inference_options import add_inference_options, inference_overrides, note_left_out_postprocessing
from core.cli.options import AS_IN_TRAINING, add_data_options, data_options_from
from core.cli.output import check_output_file
from core.cli.progress import show_progress
from core.cli.values import image_channels
from core.compute.allocator import set_freed_memory_retention
from core.datasets.single_case import read_images
from core.errors import ConfigError, VolumeError
from core.formatting import format_count, format_number
from core.imaging.dicom_output import SUFFIX, SegmentedSeries, check_dicom_output, write_dicom_segmentation
from core.imaging.volume import write_label, write_map
from core.inference.ensemble_predictor import EnsemblePredictor, open_predictor
from core.inference.subject_image import SubjectImage
from core.inference.uncertainty import PredictionMaps
from core.inference.voxel_size import with_advice
from core.paths import checkpoints_root
from core.runs.kept_maps import in_percent
from core.runs.models import find_models
from core.strict_json import dumps

MAPS = {
    "--uncertainty": "the entropy of the probabilities in bits; of the mean of mirrored passes or networks",
    "--mutual-information": "the part of the uncertainty in which mirrored passes, or networks, contradict each other",
    "--probabilities": "the probability of each class, background first, or of each region: a 4-D file",
    "--logits": "the logit of each class, background first, or of each region, averaged over tiles and mirrored "
    "passes: a 4-D file; an ensemble has none",
}


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
        "--without",
        metavar="MODALITY",
        nargs="+",
        default=[],
        help="modalities of which there is no IMAGE, for a network that was trained without some (modality dropout, or "
        "cases without a modality): their image is 0",
    )
    parser.add_argument(
        "--out",
        metavar="SEG.nii.gz",
        type=Path,
        required=True,
        help="label map to write, .nii or .nii.gz; .dcm: a DICOM segmentation (SEG) that refers to a DICOM series",
    )
    parser.add_argument(
        "--disagreement",
        metavar="MAP.nii.gz",
        type=Path,
        help="for an ensemble: map to write of where its networks disagree, the share of their pairs in percent",
    )
    for option, of in MAPS.items():
        parser.add_argument(option, metavar="MAP.nii.gz", type=Path, help=f"map to write of {of}")
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
    written = [path for path in (args.out, args.disagreement, *_maps(args)) if path is not None]
    for path in written:
        check_output_file(path, (".nii", ".nii.gz", *([SUFFIX] if path == args.out else [])), VolumeError)
    if args.out.name.lower().endswith(SUFFIX):
        check_dicom_output(args.out, args.images[0])
    if len({os.path.realpath(path) for path in written}) < len(written):
        raise VolumeError(f"{args.out}: expected another file for each map to write, got one twice; name them apart")
    images = {os.path.realpath(path) for path in args.images}
    if lost := next((path for path in written if os.path.realpath(path) in images), None):
        raise VolumeError(f"{lost}: expected another file to write to than an image that is segmented")
    started = time.monotonic()
    set_freed_memory_retention(True)
    overrides = replace(inference_overrides(args), maps=any(_maps(args)), logits=args.logits is not None)
    predictor = open_predictor(find_models(checkpoints_root(args.checkpoints), args.run), overrides)
    note_left_out_postprocessing(predictor, args)
    if args.disagreement is not None and not isinstance(predictor, EnsemblePredictor):
        raise ConfigError(f"--disagreement: expected an ensemble, got one network ({predictor.path}); leave it out")
    if args.logits is not None and isinstance(predictor, EnsemblePredictor):
        raise ConfigError(
            "--logits: expected one network, got an ensemble, which averages probabilities and has no logits; give one "
            "of its networks, or leave it out"
        )
    options = data_options_from(args, predictor.metadata.train_config.data)
    if args.without and not predictor.learned_missing:
        raise ConfigError(
            f"--without: expected a network that was trained without some modalities, got {predictor.path}, which "
            f"always had {', '.join(predictor.modalities)}; give all images, or train with --modality-dropout 0.3"
        )
    subject = read_images(
        args.images, predictor.modalities, args.channels or (), options.nan_is_zero, tuple(args.without)
    )
    image = SubjectImage.of(subject)
    if args.mutual_information is not None and predictor.passes_of(image) == 1:
        raise ConfigError(
            "--mutual-information: expected several passes, got one network that does not mirror this image; add "
            "--mirror (an image without a known orientation is not mirrored where classes have sides), give an "
            "ensemble, or leave it out"
        )
    with show_progress("tiles", args.progress) as progress:
        segmentation = predictor.segment_in_detail(image, progress)
    prediction = predictor.postprocess(segmentation.labels, subject.geometry.voxel_ml)
    warnings, training = predictor.warnings(subject), predictor.expected.training
    labels = predictor.labels
    if args.out.name.lower().endswith(SUFFIX):
        channel = args.channels[0] - 1 if args.channels else 0
        series = SegmentedSeries(subject.first_image, channel, subject.stored, labels, Path(args.run).name)
        write_dicom_segmentation(args.out, prediction, series)
    else:
        write_label(args.out, labels.to_raw(prediction), subject.stored, subject.first_image)
    if args.disagreement is not None and segmentation.disagreement is not None:
        write_label(args.disagreement, in_percent(segmentation.disagreement), subject.stored, subject.first_image)
    for path, values in _written_maps(args, segmentation.maps):
        write_map(path, values, subject.stored, subject.first_image)
    voxel_ml = subject.geometry.voxel_ml
    counts = np.bincount(prediction.ravel(), minlength=len(labels))
    volumes_ml = {c.name: int(n) * voxel_ml for c, n in zip(labels.classes[1:], counts[1:], strict=True)}
    elapsed_s = round(time.monotonic() - started, 2)
    for warning in warnings:
        print(f"warning: {with_advice(warning)}", file=sys.stderr)
    if args.json:
        given = [name for name in predictor.modalities if name not in subject.absent]
        paths = [str(path) for path in args.images * len(given)]
        report = {
            "out": str(args.out),
            "disagreement": None if args.disagreement is None else str(args.disagreement),
            **{option[2:].replace("-", "_"): path for option, path in zip(MAPS, _maps(args), strict=True)},
            "channels_of_probabilities": predictor.outputs.names,
            "checkpoint": str(predictor.path),
            "images": dict(zip(given, paths, strict=False)),
            "without": list(subject.absent),
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
        print(f"note: NaN was read as 0 in {format_count(subject.nan_voxels, 'voxel')}", file=sys.stderr)
    for path, text in subject.remarks:
        print(f"note: {path}: {text}", file=sys.stderr)
    if not subject.stored.oriented:
        print("note: the image states no orientation, and neither does the segmentation", file=sys.stderr)
    return 0


def _maps(args: argparse.Namespace) -> tuple[Path | None, ...]:
    """Paths of the maps to write, in the order of ``MAPS``."""
    return args.uncertainty, args.mutual_information, args.probabilities, args.logits


def _written_maps(args: argparse.Namespace, maps: PredictionMaps | None) -> Iterator[tuple[Path, np.ndarray]]:
    """Paths and values of the maps to write."""
    if maps is None:
        return
    values_of = (maps.uncertainty, maps.mutual_information, maps.probabilities, maps.logits)
    for path, values in zip(_maps(args), values_of, strict=True):
        if path is not None and values is not None:
            yield path, values
