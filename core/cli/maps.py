"""``maps``: keep maps of kept segmentations: uncertainty, probabilities and logits, or feature maps of a stage."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

from core.cli.arguments import add_json, add_progress
from core.cli.kept_predictions import KeptModel, add_kept_model, open_kept_model
from core.cli.progress import PARTS_PER_STEP, show_progress
from core.compute.allocator import set_freed_memory_retention
from core.errors import ConfigError
from core.formatting import format_count, format_list
from core.inference.stage_maps import STRONGEST, StageRequest
from core.inference.stage_pass import check_stage
from core.runs.kept_maps import LEVELS, has_logits, kinds_of, map_file, read_kept_maps
from core.runs.kept_stage_maps import read_kept_stage, stage_map_file, suffices
from core.runs.map_maker import make_maps, make_stage_maps
from core.runs.predictions import Prediction
from core.strict_json import dumps
from core.types import ProgressCallback


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_kept_model(parser)
    parser.add_argument(
        "--subject",
        action="append",
        metavar="ID",
        help="this subject; may be given several times (default: all whose segmentation is kept, up to date and "
        "without these maps)",
    )
    parser.add_argument(
        "--logits",
        action="store_true",
        help="also the logits of each class or region, the pre-activations of the last layer; an ensemble has none",
    )
    parser.add_argument(
        "--stage",
        metavar="NAME",
        help="feature maps of this stage of the network instead, by its name on Learn and in features, such as "
        f"encoder-1 or bottleneck: the mean over all channels, and the {STRONGEST} channels with the largest standard "
        "deviation in the middle of the image",
    )
    parser.add_argument(
        "--channel",
        metavar="N",
        type=int,
        action="append",
        help="with --stage: this channel, counted from 0, instead of those; may be given several times",
    )
    add_json(parser)
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Segment the subjects again, with the options of the kept segmentations, and keep the maps.

    Raises
    ------
    UserError
        If there is no up-to-date segmentation of a subject, its maps cannot be made or kept, or an ensemble is asked
        for logits or feature maps.
    """
    _check_options(args)
    model = open_kept_model(args)
    if not has_logits(model.metadata):
        _refuse_ensemble(args)
    set_freed_memory_retention(True)
    maker = _maker_of(model, args)
    if args.subject:
        chosen = [model.prediction(id) for id in dict.fromkeys(args.subject)]
    else:
        chosen = [one for one in model.predictions.values() if not one.stale and not maker.suffice(one)]
        _warn_of_the_others(model)
    if not chosen:
        maker.check()
    report = {}
    with show_progress("subjects", args.progress, PARTS_PER_STEP) as progress:
        for number, prediction in enumerate(chosen):

            def show(done: int, total: int, number: int = number, id: str = prediction.subject) -> None:
                progress(number + done / total, len(chosen), id)

            report[prediction.subject] = maker.make(prediction, show)
    if args.json:
        print(dumps({"subjects": report}))
    else:
        print(f"kept {maker.what} of {format_count(len(report), 'subject')}")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    if args.channel and args.stage is None:
        raise ConfigError("--channel: expected --stage beside it, whose channel it is")
    if args.stage is not None and args.logits:
        raise ConfigError("--stage: expected it without --logits, which are made by another pass; give one of them")


def _warn_of_the_others(model: KeptModel) -> None:
    """Say that there are no segmentations of which maps could be made, or that some are outdated."""
    stale = [id for id, one in model.predictions.items() if one.stale]
    if not model.predictions:
        print(f"warning: no segmentation is kept yet; make some: {model.evaluate} --keep", file=sys.stderr)
    elif stale:
        outdated = f"the segmentation of {format_list(stale)} is outdated"
        print(f"warning: no maps, as {outdated}; make it again: {model.evaluate} --keep", file=sys.stderr)


def _refuse_ensemble(args: argparse.Namespace) -> None:
    if args.logits:
        raise ConfigError(
            "--logits: expected one network, got an ensemble, which averages probabilities and has no logits; give one "
            "of its networks, or leave it out"
        )
    if args.stage is not None:
        raise ConfigError(
            "--stage: expected one network, got an ensemble, each network of which has stages of its own; give one of "
            "its networks"
        )


def _maker_of(model: KeptModel, args: argparse.Namespace) -> _MapMaker | _StageMaker:
    if args.stage is None:
        return _MapMaker(model, args.logits)
    channels = tuple(args.channel or ())
    return _StageMaker(model, StageRequest(args.stage, channels, strongest=not channels))


@dataclass(frozen=True)
class _MapMaker:
    """Makes uncertainty, probabilities and, where they are asked for, logits."""

    model: KeptModel
    logits: bool
    what = "maps"

    def check(self) -> None:
        """Every network has such maps."""

    def suffice(self, prediction: Prediction) -> bool:
        """Whether there are such maps of a prediction."""
        maps = read_kept_maps(prediction.file, prediction.made_at)
        return maps is not None and (maps.logits or not self.logits)

    def make(self, prediction: Prediction, progress: ProgressCallback) -> dict[str, Any]:
        """Make them; returns the report."""
        made = make_maps(self.model.checkpoint, self.model.dataset, prediction, progress, logits=self.logits)
        kinds = kinds_of(self.model.metadata, made.maps.passes, self.logits)
        return {
            "passes": made.maps.passes,
            "changed_voxels": made.changed_voxels,
            "maps": {kind.key: map_file(prediction.file, kind) for kind in kinds},
        }


@dataclass(frozen=True)
class _StageMaker:
    """Makes feature maps of a stage."""

    model: KeptModel
    request: StageRequest
    what = "feature maps"

    def check(self) -> None:
        """Refuse a stage or a channel that the network does not have; making maps does so too."""
        check_stage(self.model.checkpoint, self.request)

    def suffice(self, prediction: Prediction) -> bool:
        """Whether there are such maps of a prediction."""
        return suffices(read_kept_stage(prediction.file, prediction.made_at, self.request.stage), self.request)

    def make(self, prediction: Prediction, progress: ProgressCallback) -> dict[str, Any]:
        """Make them; returns the report."""
        kept = make_stage_maps(self.model.checkpoint, self.model.dataset, prediction, self.request, progress)
        return {
            "stage": kept.stage,
            "channels": kept.channel_count,
            "voxel_mm": kept.voxel_mm,
            "maps": {
                one.key: {
                    "file": stage_map_file(prediction.file, kept.stage, one.key),
                    "low": one.low,
                    "high": one.high,
                    "levels": LEVELS,
                }
                for one in kept.maps
            },
        }
