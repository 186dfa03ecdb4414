"""A training step of ours beside the same network of nnU-Net and MONAI, in turns, on the same sub-volumes."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from core.bench import report
from core.bench.contenders import (
    CLASSES,
    IN_CHANNELS,
    Contender,
    contenders,
    gflop_of,
    levels_for,
    plain_unet,
    random_batch,
)
from core.bench.loop import measure_loop
from core.bench.machine import Machine, matmul_peaks, peak_of
from core.bench.peers import PeerMissingError, versions
from core.bench.report import Report, Row, compared, timed
from core.bench.roofline import bounds
from core.bench.timing import PeakMemory, Show, Work, at_home, in_turns, time_of
from core.compute.device import cudnn_benchmark, empty_cache, out_of_memory_error, resolve_device, set_num_threads
from core.compute.precision import resolve_precision
from core.config import Acceleration, OptimConfig, OptimizerName
from core.errors import ConfigError, first_line
from core.presets import preset
from core.training.acceleration import PLAIN_STEPS
from core.types import Size3

WIDTHS = (32, 64, 128, 256, 320, 320)
SUB_VOLUME: dict[str, Size3] = {"cpu": (64, 64, 64), "cuda": (128, 128, 64)}
STEPS = {"cpu": 1, "cuda": 10}
WARM_UP_STEPS = {"cpu": 1, "cuda": PLAIN_STEPS + 3}
ACCELERATIONS: dict[str, tuple[Acceleration, ...]] = {
    "cpu": (), "cuda": ("none", "compile", "graph", "compiled_graph"),
}  # fmt: skip
ALIKE = OptimConfig(learning_rate=1e-2, momentum=0.99, weight_decay=3e-5, clip_norm=12.0)  # SGD, as nnU-Net's
COLUMNS = (
    report.NAME, report.PRECISION, report.BATCH, report.MS, report.LOW, report.HIGH, report.SPEED, report.GFLOP,
    report.TFLOPS, report.SHARE, report.MEMORY, report.RATIO, report.NOTE,
)  # fmt: skip
NOTE = (
    "ms: median of the blocks, least, most; in each block every network has its turn.\n"
    "time/ours: time of the row / time of ours at the same batch; above 1, ours is faster.\n"
    "bound: products of matrices {products}, or copying what they read and write."
)
PRODUCTS = {"cpu": "as each level's convolutions have them", "cuda": "for each level's convolutions, at the peak"}


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    sub_volume : in voxels; ``None``: 128x128x64 on CUDA, 64x64x64 on a CPU.
    channels : at each level, full resolution first; as many of them are used as the sub-volume has room for.
    batches : sub-volumes in a step; a group of rows for each.
    steps : of each network in a block; ``None``: 10 on CUDA, 1 on a CPU.
    blocks : how often each network has its turn.
    optimizer : of ours, as preset ``fast`` has it otherwise; ``None``: the peers' own, SGD with momentum.
    peers : nnU-Net and MONAI too.
    alike : them once more, in the precision of ours.
    article : the article's network too; ``None``: on CUDA.
    accelerations : ours once more, its step launched in each of these ways; ``None``: all there are on CUDA, none on a
        CPU.
    loop : the trainer's whole loop too, at the first batch size.
    loop_s : seconds of each of its epochs.
    roofline : the least time that ours could take, level by level, at the first batch size.
    """

    sub_volume: Size3 | None = None
    channels: tuple[int, ...] = WIDTHS
    batches: tuple[int, ...] = (1, 2, 4)
    steps: int | None = None
    blocks: int = 7
    optimizer: OptimizerName | None = None
    peers: bool = False
    alike: bool = False
    article: bool | None = None
    accelerations: tuple[Acceleration, ...] | None = None
    loop: bool = True
    loop_s: float = 4.0
    roofline: bool = True

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1:
            raise ConfigError(f"batch: expected one or more numbers of at least 1, got {self.batches}")
        if (self.steps is not None and self.steps < 1) or self.blocks < 1:
            raise ConfigError(f"steps, blocks: expected at least 1 of each, got {self.steps} and {self.blocks}")
        if not self.loop_s > 0:
            raise ConfigError(f"loop_seconds: expected more than 0, got {self.loop_s}")

    def size(self, device: torch.device) -> Size3:
        """The sub-volume on this device."""
        return self.sub_volume or SUB_VOLUME[device.type]

    def used_channels(self, device: torch.device) -> tuple[int, ...]:
        """The widths that the sub-volume has room for.

        Raises
        ------
        ConfigError
            If these are fewer than two.
        """
        size = self.size(device)
        used = self.channels[: levels_for(size, len(self.channels))]
        if len(used) < 2:
            raise ConfigError(
                f"sub_volume, channels: expected room for two levels or more, got {'x'.join(map(str, size))} voxels "
                f"and {len(self.channels)} widths; choose even sides of 8 voxels or more, such as 64x64x64"
            )
        return used

    @property
    def optim(self) -> OptimConfig:
        """How ours is optimised."""
        return ALIKE if self.optimizer is None else replace(preset("fast").optim, optimizer=self.optimizer)


def bench_train(settings: Settings, device_name: str, show: Show) -> Report:
    """Measure training steps.

    Parameters
    ----------
    settings : what is measured.
    device_name : "auto", "cpu" or "cuda".
    show : called with (done, total, words).

    Raises
    ------
    ConfigError
        If the sub-volume has no room for two levels.
    DeviceError
        If the device is missing, or has no room for our network.
    """
    device = resolve_device(device_name)
    set_num_threads(0)
    size, channels, steps = settings.size(device), settings.used_channels(device), settings.steps or STEPS[device.type]
    article = device.type == "cuda" if settings.article is None else settings.article
    accelerations = ACCELERATIONS[device.type] if settings.accelerations is None else settings.accelerations
    every = contenders(
        channels, device, settings.optim, peers=settings.peers, article=article, alike=settings.alike,
        accelerations=accelerations,
    )  # fmt: skip
    machine = Machine.here(device, resolve_precision("auto", device))
    groups = []
    peaks = matmul_peaks(device)
    for batch in settings.batches:
        groups.append(_Group(every, batch, size, device, show).measure(steps, settings.blocks))
        gc.collect()
    loop = _loop(settings, channels, device, machine.precision, show) if settings.loop else []
    again = matmul_peaks(device)  # noise only ever makes it less
    peaks = {name: max(tflops, again[name]) for name, tflops in peaks.items()}
    least: list[Row] = []
    if settings.roofline:
        show(0, 1, "products of the shapes of each level")
        peak = peak_of(machine.precision, device, peaks)
        least = bounds(plain_unet(channels), settings.batches[0], size, device, machine.precision, peak)
    rows: list[Row] = []
    for batch, group in zip(settings.batches, groups, strict=True):
        filled = [
            timed(m.row, m.seconds, batch=batch, peak_tflops=peak_of(m.row.precision, device, peaks))
            if m.seconds
            else m.row
            for m in group
        ]
        rows += compared(filled, filled[0])
        peak = peak_of(machine.precision, device, peaks)
        rows += [
            timed(replace(m.row, gflop=filled[0].gflop), m.seconds, batch=batch, peak_tflops=peak)
            if m.seconds
            else m.row
            for m in loop
        ]
        loop = []  # it is measured at the first batch size
        if batch == settings.batches[0]:
            rows += compared(least, filled[0])
    told = dict(
        sub_volume=list(size), in_channels=IN_CHANNELS, classes=CLASSES, channels=list(channels), loss="dice_ce",
        steps=steps, blocks=settings.blocks, **(versions() if settings.peers else {}),
    )  # fmt: skip
    notes = (NOTE.format(products=PRODUCTS[device.type]), *_unequal(rows))
    return Report("train", machine, told, tuple(rows), COLUMNS, peaks, notes)


@dataclass
class _Measured:
    """A row, and the seconds of a step in each block; none where there is nothing to run."""

    row: Row
    seconds: Sequence[float] = ()


class _Group:
    """All contenders at one batch size."""

    def __init__(self, every: Sequence[Contender], batch: int, size: Size3, device: torch.device, show: Show) -> None:
        self.every, self.batch, self.size, self.device, self.show = every, batch, size, device, show
        self.image, self.label = random_batch(batch, size, device)

    def measure(self, steps: int, blocks: int) -> list[_Measured]:
        """Build and warm up each, then time those that run, in turns."""
        torch.compiler.reset()  # compiled for another batch size before, a network would be compiled for any size
        found, running, works, step_s = [], [], [], 0.0
        for number, contender in enumerate(self.every):
            self.show(number, len(self.every), f"batch {self.batch}: preparing {contender.name}")
            measured = _Measured(Row(contender.name, contender.precision, self.batch, note=contender.note))
            found.append(measured)
            work = self._prepare(contender, measured)
            if work is not None:
                running.append(measured)
                works.append(work)
                step_s += time_of(work, 1, self.device)
        if self.device.type == "cuda":
            for work in works:  # those that recorded had torch give back the memory of those before
                work()
        turns, began = blocks * len(works), time.perf_counter()
        self.show(0, turns, f"batch {self.batch}: about {step_s * steps * blocks:.0f} s")

        def show(done: int) -> None:
            left_s = (time.perf_counter() - began) / done * (turns - done)
            self.show(done, turns, f"batch {self.batch}: about {left_s:.0f} s left")

        for measured, seconds in zip(
            running, in_turns(works, [steps] * len(works), blocks, self.device, show), strict=True
        ):
            measured.seconds = seconds
        return found

    def _prepare(self, contender: Contender, measured: _Measured) -> Work | None:
        """Count, build and warm up; where a peer is missing or fails the row says so, and there is nothing to run."""
        try:
            gflop = gflop_of(contender, self.batch, self.size)
            memory = PeakMemory(self.device)
            step = contender.step(contender.build().to(self.device).train())

            def one() -> None:
                with cudnn_benchmark(self.device, contender.tries_kernels):
                    step(self.image, self.label)

            work = at_home(one, contender.ours)
            if self.device.type == "cuda":
                time_of(work, 1, self.device)
                memory.settle()
            time_of(work, WARM_UP_STEPS[self.device.type], self.device)
            note = "; ".join([measured.row.note, *contender.told]).removeprefix("; ")
            measured.row = replace(measured.row, gflop=gflop, peak_memory_mb=memory.read_mb(), note=note)
            return work
        except PeerMissingError as error:
            measured.row = replace(measured.row, note=str(error))
        except Exception as error:
            explained = out_of_memory_error(error, self.device)
            if contender is self.every[0] or (contender.must_run and explained is None):
                raise (explained or error) from error
            note = "not enough memory" if explained is not None else f"failed: {first_line(error)}"
            measured.row = replace(measured.row, note=note)
        gc.collect()  # what it took: a step that is recorded refers to itself
        empty_cache(self.device)
        return None


def _loop(
    settings: Settings, channels: tuple[int, ...], device: torch.device, precision: str, show: Show
) -> list[_Measured]:
    """A row for the whole loop of the trainer, and one for the bare step that was measured beside it."""
    batch = settings.batches[0]
    try:
        times = measure_loop(
            plain_unet(channels), settings.optim, precision, batch=batch, size=settings.size(device), device=device,
            block_s=settings.loop_s, show=lambda done, total: show(done, total, f"batch {batch}: training loop"),
        )  # fmt: skip
    except (MemoryError, RuntimeError) as error:
        if out_of_memory_error(error, device) is None:
            raise
        return [_Measured(Row("ours, whole loop of fit", precision, batch, note="not enough memory"))]
    note = f"drawing, augmentation, reports, {times.saved} checkpoints; by the bare step of the next row"
    return [
        _Measured(Row("ours, whole loop of fit", precision, ratio=times.ratio, note=note), times.loop_s),
        _Measured(Row("ours, its bare step", precision, ratio=1.0, note="in turns with the loop"), times.bare_s),
    ]


def _unequal(rows: Sequence[Row]) -> list[str]:
    """A sentence about every peer that does not do exactly the operations of ours."""
    first = {row.batch: row.gflop for row in reversed(rows) if row.name == "ours"}
    notes = []
    for row in rows:
        base = first.get(row.batch)
        if base and row.gflop and row.gflop != base and "article" not in row.name and not row.name.startswith("bound"):
            notes.append(f"{row.name}, batch {row.batch}: {1000 * (row.gflop / base - 1):+.2f} per mille operations")
    return notes
