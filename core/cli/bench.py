"""``bench``: measure training, inference, augmentation and the networks, beside nnU-Net, MONAI and TorchIO."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from typing import Any

from core.bench import augment, gpu_check, infer, models, train
from core.bench.peers import REQUIREMENTS
from core.choices import OptimizerName
from core.cli.arguments import add_checkpoints, add_device, add_json, add_progress
from core.cli.help_format import HelpFormatter
from core.cli.progress import show_progress
from core.cli.values import names, network_channels, size_in_voxels
from core.errors import ConfigError
from core.formatting import format_size
from core.paths import DEMO_MODEL, checkpoints_root
from core.runs import find_checkpoint
from core.strict_json import dumps

BENCHMARKS = {
    "train": "training steps of Segmentarium, nnU-Net and MONAI on the same network, and the trainer's whole loop",
    "infer": "segmentation of a whole volume by Segmentarium, and by MONAI's sliding window",
    "augment": "drawing and augmenting sub-volumes in Segmentarium, MONAI and TorchIO",
    "models": "parameters, operations, time and memory of a training step of each network",
    "gpu-check": "run everything that a GPU does once, say of each whether it holds, and measure a training step",
}
WITHOUT_PEERS = ("models", "gpu-check")  # gpu-check measures those that are installed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their arguments. Options left out are missing in the parsed arguments, and the
    benchmark's settings have the default."""
    benchmarks = parser.add_subparsers(dest="benchmark", required=True, metavar="|".join(BENCHMARKS))
    declare = {
        "train": _add_train,
        "infer": _add_infer,
        "augment": _add_augment,
        "models": _add_models,
        "gpu-check": _add_gpu_check,
    }
    for name, help in BENCHMARKS.items():
        benchmark = benchmarks.add_parser(name, help=help, description=help, formatter_class=HelpFormatter)
        if name not in WITHOUT_PEERS:
            benchmark.add_argument(
                "--peers", action="store_true", help=f"measure the other libraries too: pip install -r {REQUIREMENTS}"
            )
        add_device(benchmark, "where to measure")
        declare[name](benchmark)
        add_progress(benchmark)
        add_json(benchmark)


def run(args: argparse.Namespace) -> int:
    """Measure and report; the exit status is 1 if a check of the GPU failed.

    Raises
    ------
    UserError
        If a value is out of range, or the device or the model cannot be used.
    """
    if args.benchmark == "gpu-check":
        with show_progress("bench gpu-check", args.progress) as progress:
            settings = _settings(gpu_check.Settings, args)
            checked = gpu_check.check_gpu(settings, args.device, progress, _print_result)
        print(dumps(checked.to_json()) if args.json else checked.text())
        return int(not checked.passed)
    with show_progress(f"bench {args.benchmark}", args.progress) as progress:
        if args.benchmark == "train":
            report = train.bench_train(_settings(train.Settings, args), args.device, progress)
        elif args.benchmark == "infer":
            report = infer.bench_infer(_infer_settings(args), args.device, progress)
        elif args.benchmark == "models":
            report = models.bench_models(_settings(models.Settings, args), args.device, progress)
        else:
            report = augment.bench_augment(_settings(augment.Settings, args), args.device, progress)
    print(dumps(report.to_json()) if args.json else report.text())
    return 0


def _add_train(parser: argparse.ArgumentParser) -> None:
    defaults = train.Settings()
    _add_size(parser, "--sub-volume", "size of a sub-volume in voxels (default: 128x128x64 on CUDA, 64x64x64 on a CPU)")
    _add_channels(
        parser,
        "channels of the compared networks, full resolution first; the number of levels is limited by the size of the "
        "sub-volume",
        defaults.channels,
    )
    _add(
        parser,
        "--batch",
        f"batch sizes to measure (default: {' '.join(map(str, defaults.batches))})",
        metavar="N",
        dest="batches",
        nargs="+",
        type=int,
    )
    _add(parser, "--steps", "steps per block (default: 10 on CUDA, 1 on a CPU)", metavar="N", type=int)
    _add(parser, "--blocks", f"blocks of steps per network (default: {defaults.blocks})", metavar="N", type=int)
    _add(
        parser,
        "--optimizer",
        "optimizer of Segmentarium with the other values of preset fast (default: SGD with momentum as in the other "
        "libraries, without EMA)",
        choices=typing.get_args(OptimizerName),
    )
    parser.add_argument(
        "--same-precision",
        action="store_true",
        help="measure the other libraries in Segmentarium's precision too",
    )
    _add(
        parser,
        "--article",
        "measure the network of preset article too; slow (default: on CUDA)",
        action=argparse.BooleanOptionalAction,
    )
    _add(
        parser,
        "--acceleration",
        "measure Segmentarium's step in these accelerations too (default: all on CUDA, none on a CPU)",
        choices=train.ACCELERATIONS["cuda"],
        dest="accelerations",
        nargs="+",
    )
    _add(
        parser,
        "--loop",
        "measure the trainer's whole loop at the first batch size, beside its bare step (default: on)",
        action=argparse.BooleanOptionalAction,
    )
    _add(
        parser,
        "--loop-seconds",
        f"duration of each of the loop's five epochs in seconds (default: {defaults.loop_s:g})",
        metavar="S",
        dest="loop_s",
        type=float,
    )
    _add(
        parser,
        "--roofline",
        "report the lower bound of a step's time, level by level, at the first batch size (default: on)",
        action=argparse.BooleanOptionalAction,
    )


def _add_infer(parser: argparse.ArgumentParser) -> None:
    defaults = infer.Settings()
    parser.add_argument(
        "--model",
        metavar="RUN|FILE",
        help=f"model to segment a synthetic subject with (default: {DEMO_MODEL}, unless --size, --channels or --tile "
        "is given)",
    )
    _add_size(
        parser, "--size", f"size in voxels of noise for an untrained model (default: {format_size(defaults.size)})"
    )
    _add_channels(parser, "channels of the untrained model", defaults.channels)
    _add_size(parser, "--tile", f"tile of the untrained model in voxels (default: {format_size(defaults.tile)})")
    _add(parser, "--blocks", "measurements per method (default: 7 on CUDA, 3 on a CPU)", metavar="N", type=int)
    add_checkpoints(parser, nested=True)


def _add_augment(parser: argparse.ArgumentParser) -> None:
    defaults = augment.Settings()
    _add_size(parser, "--sub-volume", f"size of a sub-volume in voxels (default: {format_size(defaults.sub_volume)})")
    _add_size(
        parser,
        "--volume",
        f"size in voxels of the volume to draw from (default: {format_size(defaults.volume)})",
    )
    _add(
        parser,
        "--probability",
        f"probability of each operation, 0 to 1 (default: {defaults.probability:g})",
        metavar="P",
        type=float,
    )
    _add(parser, "--draws", f"sub-volumes per library (default: {defaults.draws})", metavar="N", type=int)


def _add_models(parser: argparse.ArgumentParser) -> None:
    defaults = models.Settings()
    _add(
        parser,
        "--networks",
        "networks to measure (default: all)",
        metavar="NAME,NAME",
        type=names,
    )
    _add_size(parser, "--sub-volume", "size of a sub-volume in voxels (default: 96x96x96 on CUDA, 32x32x32 on a CPU)")
    _add(parser, "--batch", f"sub-volumes per step (default: {defaults.batch})", metavar="N", type=int)
    _add(parser, "--blocks", f"timed steps per network (default: {defaults.blocks})", metavar="N", type=int)


def _print_result(result: gpu_check.CheckResult) -> None:
    """Print an outcome on standard error at once: the report comes at the end, which a machine may not last for."""
    print(result.text(), file=sys.stderr, flush=True)


def _add_gpu_check(parser: argparse.ArgumentParser) -> None:
    defaults = gpu_check.Settings()
    _add(
        parser,
        "--checks",
        "checks to run (default: all)",
        metavar="NAME,NAME",
        type=names,
    )
    _add(
        parser,
        "--table",
        "measure a training step afterwards, beside the other libraries that are installed (default: on)",
        action=argparse.BooleanOptionalAction,
    )
    _add(
        parser,
        "--limit",
        f"longest duration of everything in seconds (default: {defaults.limit_s:g})",
        metavar="S",
        dest="limit_s",
        type=float,
    )


def _add(parser: argparse.ArgumentParser, flag: str, help: str, **options: Any) -> None:
    """Add an option whose default is that of the benchmark's settings."""
    parser.add_argument(flag, help=help, default=argparse.SUPPRESS, **options)


def _add_size(parser: argparse.ArgumentParser, flag: str, help: str) -> None:
    _add(parser, flag, help, metavar="IxJxK", type=size_in_voxels)


def _add_channels(parser: argparse.ArgumentParser, help: str, default: tuple[int, ...]) -> None:
    text = f"{help} (default: {','.join(map(str, default))})"
    _add(parser, "--channels", text, metavar="N,N", type=network_channels)


def _settings(cls: type, args: argparse.Namespace) -> Any:
    """The settings with the values that were given."""
    return cls(**{f.name: getattr(args, f.name) for f in dataclasses.fields(cls) if hasattr(args, f.name)})


def _infer_settings(args: argparse.Namespace) -> infer.Settings:
    untrained = [name for name in ("size", "channels", "tile") if hasattr(args, name)]
    if args.model is not None and untrained:
        raise ConfigError(
            f"model: expected either a trained model or --{' and --'.join(untrained)} of an untrained one, got both; "
            "leave one of the two out"
        )
    if not untrained:
        args.model = find_checkpoint(checkpoints_root(args.checkpoints), args.model or DEMO_MODEL)
    settings: infer.Settings = _settings(infer.Settings, args)
    return settings
