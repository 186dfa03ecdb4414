"""``predict``: segment the images of one subject with a trained network; writes NIfTI in the input's own geometry."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np

from core.cli import checkpoints_root
from core.cli.progress import add_progress, progress
from core.compute.allocator import enable_freed_memory_retention
from core.datasets.single_case import read_images
from core.errors import VolumeError
from core.imaging.volume import write_label
from core.inference.predictor import MODES, Choices, Predictor
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
        "--channels", metavar="N,N", type=_channels, default=argparse.SUPPRESS,
        help="where an IMAGE holds several channels: the one to take of each IMAGE, counted from 1; an IMAGE may be "
        "named several times (default: one channel per IMAGE, or all of a single one in their order)",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="SEG.nii.gz", type=Path, required=True, help="label map to write, .nii or .nii.gz"
    )
    add_choices(parser)
    parser.add_argument("--json", action="store_true", help="report as JSON on standard output")
    add_progress(parser)


def add_choices(parser: argparse.ArgumentParser) -> None:
    """The options of how to segment, shared with ``evaluate``."""
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="where to compute")
    parser.add_argument(
        "--mode", choices=MODES, default="auto",
        help="join sub-volumes (tiles), one pass over the whole volume, or what held-out Dice preferred (auto)",
    )  # fmt: skip
    parser.add_argument(
        "--overlap", type=_overlap, default=argparse.SUPPRESS, metavar="SHARE",
        help="overlap of neighbouring sub-volumes, 0 to 0.9 (default: as the run's configuration says)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto",
        help="auto: as trained, where the device computes in it",
    )  # fmt: skip
    parser.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS,
        help="segment the mirror image (left and right) too and take the mean, or not; twice the work (default: as the "
        "run's configuration says)",
    )  # fmt: skip


def choices_from(args: argparse.Namespace) -> Choices:
    """How to segment, as the options say."""
    return Choices(
        args.device, args.mode, getattr(args, "overlap", None), args.precision, getattr(args, "mirror", None)
    )


def run(args: argparse.Namespace) -> int:
    """Segment and write.

    Raises
    ------
    UserError
        If the checkpoint or an image cannot be used, or the result cannot be written; then nothing is.
    """
    _check_out(args.out)
    began = time.monotonic()
    enable_freed_memory_retention()
    segmenter = Predictor(find_checkpoint(checkpoints_root(args.checkpoints), args.run), choices_from(args))
    channels = getattr(args, "channels", ())
    subject = read_images(args.images, segmenter.modalities, channels)
    with progress("tiles", args.progress) as show:
        prediction = segmenter.segment(subject.image, subject.geometry.spacing_mm, show)
    labels = segmenter.labels
    write_label(args.out, labels.to_raw(prediction), subject.stored, subject.first_image)
    voxel_ml = math.prod(subject.geometry.spacing_mm) / 1000
    counts = np.bincount(prediction.ravel(), minlength=len(labels))
    volumes = {c.name: int(n) * voxel_ml for c, n in zip(labels.classes[1:], counts[1:], strict=True)}
    seconds = round(time.monotonic() - began, 2)
    if args.json:
        used = dict(zip(segmenter.modalities, [str(p) for p in args.images * len(segmenter.modalities)], strict=False))
        print(
            dumps(
                {
                    "out": str(args.out), "checkpoint": str(segmenter.path), "images": used,
                    "channels": channels or None, "volume_ml": volumes,
                    "labels": {c.name: c.raw for c in labels.classes}, **segmenter.facts(), "seconds": seconds,
                }
            )
        )  # fmt: skip
        return 0
    told = ", ".join(f"{name} {volume:.1f} ml" for name, volume in volumes.items())
    print(f"{args.out}: {told} ({seconds:.1f} s)")
    if not subject.stored.oriented:
        print("note: the image states no orientation, and neither does the segmentation", file=sys.stderr)
    return 0


def _check_out(out: Path) -> None:
    """Say what is wrong with the name before minutes of work, not after."""
    if not out.name.lower().endswith((".nii", ".nii.gz")):
        raise VolumeError(f"{out}: expected a name ending in .nii or .nii.gz to write to")
    if not out.absolute().parent.is_dir():
        raise VolumeError(f"{out}: expected a folder that exists to write to, found none at {out.absolute().parent}")


def _channels(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected numbers counted from 1, got {text}")
    return numbers


def _overlap(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 0.9:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 0.9, got {text}")
    return value
