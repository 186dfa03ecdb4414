"""Options of inference, shared by ``predict`` and ``evaluate``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from core.cli.arguments import add_device
from core.cli.values import overlap_share

if TYPE_CHECKING:
    from core.inference.predictor import InferenceOverrides, Predictor


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    """``--device``, ``--mode``, ``--overlap``, ``--precision``, ``--mirror``, ``--resample`` and
    ``--no-postprocessing``."""
    from core.inference.predictor import MODES

    add_device(parser)
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="auto",
        help="sliding window over sub-volumes (tiles), one pass over the whole volume, or the one with the better Dice "
        "on held-out subjects (auto)",
    )
    parser.add_argument(
        "--overlap",
        type=overlap_share,
        metavar="SHARE",
        help="overlap of neighbouring tiles, 0 to 0.9 (default: from the run's configuration)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="auto: as in training, where the device supports it",
    )
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="average with the prediction for the left-right mirrored image; doubles the work (default: from the run's "
        "configuration)",
    )
    parser.add_argument(
        "--resample",
        action="store_true",
        help="for a model trained without resampling: resample images to the median voxel size of its training, and "
        "the segmentation back to the image's grid",
    )
    parser.add_argument(
        "--no-postprocessing",
        action="store_true",
        help="leave out the postprocessing that is stored with the model (largest components, filled holes)",
    )


def inference_overrides(args: argparse.Namespace) -> InferenceOverrides:
    """The parsed options."""
    from core.inference.predictor import InferenceOverrides

    return InferenceOverrides(
        device=args.device,
        mode=args.mode,
        overlap=args.overlap,
        precision=args.precision,
        mirror=args.mirror,
        resample=args.resample,
        postprocess=not args.no_postprocessing,
    )


def note_left_out_postprocessing(predictor: Predictor, args: argparse.Namespace) -> None:
    """Say that networks that were joined for this command are used without their postprocessing, where it differs."""
    from core.inference.ensemble_predictor import EnsemblePredictor

    if not isinstance(predictor, EnsemblePredictor) or predictor.postprocessing or args.no_postprocessing:
        return
    joined = any(member.index is None for member in predictor.members)  # the file of an ensemble has its own
    if joined and any(member.metadata.postprocessing for member in predictor.members):
        print("note: the postprocessing of the networks differs and is left out", file=sys.stderr)
