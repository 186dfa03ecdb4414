"""``bench``: how fast training, prediction and augmentation are, beside nnU-Net, MONAI and TorchIO."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable
from typing import Any

from core.bench import augment, infer, train
from core.bench.peers import REQUIREMENTS
from core.bench.report import Report
from core.bench.timing import Show
from core.cli import checkpoints_root
from core.cli.places import sub_volume
from core.cli.progress import add_progress, progress
from core.config import ModelConfig, OptimizerName, field_specs
from core.errors import ConfigError
from core.paths import READY_MADE
from core.runs import find_checkpoint
from core.strict_json import dumps

WHAT = {
    "train": "a training step of ours beside the same network of nnU-Net and MONAI, and the trainer's whole loop",
    "infer": "a whole volume segmented by ours beside MONAI's sliding window",
    "augment": "sub-volumes drawn and augmented by ours beside MONAI and TorchIO",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parts = parser.add_subparsers(dest="what", required=True, metavar="|".join(WHAT))
    declare = {"train": _add_train, "infer": _add_infer, "augment": _add_augment}
    for name, help in WHAT.items():
        part = parts.add_parser(
            name, help=help, description=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        part.add_argument("--peers", action="store_true", help=f"the peers too: pip install -r {REQUIREMENTS}")
        part.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="where to measure")
        declare[name](part)
        add_progress(part)
        part.add_argument("--json", action="store_true", help="report as JSON on standard output, nothing else there")


def run(args: argparse.Namespace) -> int:
    """Measure and report.

    Raises
    ------
    UserError
        If an argument has a value that it cannot have, or the device or the model cannot be used.
    """
    benches: dict[str, Callable[[argparse.Namespace, Show], Report]] = {
        "train": lambda args, show: train.bench_train(_settings(train.Settings, args), args.device, show),
        "infer": lambda args, show: infer.bench_infer(_infer_settings(args), args.device, show),
        "augment": lambda args, show: augment.bench_augment(_settings(augment.Settings, args), args.device, show),
    }
    with progress(f"bench {args.what}", args.progress) as show:
        report = benches[args.what](args, show)
    print(dumps(report.to_json()) if args.json else report.text())
    return 0


def _add_train(parser: argparse.ArgumentParser) -> None:
    defaults = train.Settings()
    _add_size(parser, "--sub-volume", "size of a sub-volume in voxels (default: 128x128x64 on CUDA, 64x64x64 on a CPU)")
    parser.add_argument(
        "--channels", metavar="N,N", type=_channels, default=argparse.SUPPRESS,
        help="widths of the compared networks, full resolution first; as many are used as the sub-volume has room for "
        f"(default: {','.join(map(str, defaults.channels))})",
    )  # fmt: skip
    parser.add_argument(
        "--batch", metavar="N", dest="batches", nargs="+", type=int, default=argparse.SUPPRESS,
        help=f"sub-volumes in a step; a group of rows for each (default: {' '.join(map(str, defaults.batches))})",
    )  # fmt: skip
    parser.add_argument(
        "--steps", metavar="N", type=int, default=argparse.SUPPRESS,
        help="steps of each network in a block (default: 10 on CUDA, 1 on a CPU)",
    )  # fmt: skip
    parser.add_argument(
        "--blocks", metavar="N", type=int, default=defaults.blocks, help="how often each network has its turn"
    )
    parser.add_argument(
        "--optimizer", choices=typing.get_args(OptimizerName), default=argparse.SUPPRESS,
        help="of ours, otherwise as in preset fast (default: the peers' own, SGD with momentum, no running average)",
    )  # fmt: skip
    parser.add_argument(
        "--same-precision", dest="alike", action="store_true", help="the peers once more, in the precision of ours"
    )
    parser.add_argument(
        "--article", action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS,
        help="the network of preset article too; heavy (default: on CUDA)",
    )  # fmt: skip
    parser.add_argument(
        "--acceleration", choices=train.ACCELERATIONS["cuda"], dest="accelerations", nargs="+",
        default=argparse.SUPPRESS,
        help="ours once more, its step launched in these ways (default: on CUDA in all of them, on a CPU in no other)",
    )  # fmt: skip
    parser.add_argument(
        "--loop", action=argparse.BooleanOptionalAction, default=True,
        help="the trainer's whole loop too, at the first batch size, beside its bare step",
    )  # fmt: skip
    parser.add_argument(
        "--loop-seconds", metavar="S", dest="loop_s", type=float, default=defaults.loop_s,
        help="length of each of its five epochs, in seconds",
    )  # fmt: skip
    parser.add_argument(
        "--roofline", action=argparse.BooleanOptionalAction, default=True,
        help="the least time that ours could take, level by level, at the first batch size",
    )  # fmt: skip


def _add_infer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", metavar="RUN|FILE", default=None,
        help="network to segment a synthetic subject with (default: the ready-made model, unless --size, --channels or "
        "--tile is given)",
    )  # fmt: skip
    untrained = infer.Settings()
    size, tile = ("x".join(map(str, s)) for s in (untrained.size, untrained.tile))
    channels = ",".join(map(str, untrained.channels))
    _add_size(parser, "--size", f"of a volume of noise, in voxels, for a network without training (default: {size})")
    parser.add_argument(
        "--channels", metavar="N,N", type=_channels, default=argparse.SUPPRESS,
        help=f"widths of that network (default: {channels})",
    )  # fmt: skip
    _add_size(parser, "--tile", f"size of its sub-volumes in voxels (default: {tile})")
    parser.add_argument(
        "--blocks", metavar="N", type=int, default=argparse.SUPPRESS,
        help="how often each way has its turn (default: 7 on CUDA, 3 on a CPU)",
    )  # fmt: skip
    parser.add_argument("--checkpoints", metavar="DIR", default=argparse.SUPPRESS, help="root of runs")


def _add_augment(parser: argparse.ArgumentParser) -> None:
    defaults = augment.Settings()
    size, volume = ("x".join(map(str, s)) for s in (defaults.sub_volume, defaults.volume))
    _add_size(parser, "--sub-volume", f"size of a sub-volume in voxels (default: {size})")
    _add_size(parser, "--volume", f"size of the volume that it is cut from (default: {volume})")
    parser.add_argument(
        "--probability", metavar="P", type=float, default=defaults.probability, help="of each operation, 0 to 1"
    )
    parser.add_argument(
        "--draws", metavar="N", type=int, default=defaults.draws, help="how many sub-volumes each way makes"
    )


def _add_size(parser: argparse.ArgumentParser, flag: str, help: str) -> None:
    parser.add_argument(flag, metavar="IxJxK", type=sub_volume, default=argparse.SUPPRESS, help=help)


def _settings(cls: type, args: argparse.Namespace) -> Any:
    """The settings that the arguments name; what was not given is as the class has it."""
    return cls(**{f.name: getattr(args, f.name) for f in dataclasses.fields(cls) if hasattr(args, f.name)})


def _infer_settings(args: argparse.Namespace) -> infer.Settings:
    untrained = [name for name in ("size", "channels", "tile") if hasattr(args, name)]
    if args.model is not None and untrained:
        raise ConfigError(
            f"model: expected either a trained network or --{' and --'.join(untrained)} of one without training, got "
            "both; leave one of the two out"
        )
    if not untrained:
        args.model = find_checkpoint(checkpoints_root(args.checkpoints), args.model or READY_MADE)
    settings: infer.Settings = _settings(infer.Settings, args)
    return settings


def _channels(text: str) -> tuple[int, ...]:
    """Widths as an argument: ``32,64,128`` or ``32-64-128``."""
    spec = next(spec for spec in field_specs() if spec.name == "channels")
    try:
        channels = ModelConfig(channels=spec.parse(text.replace("-", ","))).channels
    except ConfigError as error:
        raise argparse.ArgumentTypeError(f"expected widths like 32,64,128, got {text}: {error}") from None
    if not channels:
        raise argparse.ArgumentTypeError(f"expected widths like 32,64,128, got {text!r}")
    return channels
