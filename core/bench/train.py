"""Benchmark of training steps: Segmentarium, nnU-Net and MONAI in turns on the same sub-volumes."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from core.bench import report
from core.bench.implementations import (
    CLASSES,
    IN_CHANNELS,
    Implementation,
    Selection,
    count_gflop,
    max_levels,
    plain_unet,
    random_batch,
    select_implementations,
)
from core.bench.loop import LoopSetup, measure_loop
from core.bench.machine import Machine, defaults_of, matmul_peaks, peak_for
from core.bench.peers import PeerMissingError, peer_versions
from core.bench.report import Report, Row, with_ratios, with_times
from core.bench.roofline import lower_bounds
from core.bench.timing import (
    PeakMemory,
    RemainingTime,
    Workload,
    seconds_per_call,
    time_interleaved,
    with_memory_retention,
)
from core.choices import Acceleration, OptimizerName
from core.compute.device import cudnn_benchmark, empty_cache, out_of_memory_error, resolve_device, set_num_threads
from core.compute.precision import resolve_precision
from core.config import OptimConfig
from core.errors import ConfigError, first_line
from core.formatting import format_size
from core.presets import preset
from core.training.acceleration import EAGER_STEPS
from core.types import Size3, TextProgressCallback

CHANNELS = (32, 64, 128, 256, 320, 320)
SUB_VOLUME: dict[str, Size3] = {"cpu": (64, 64, 64), "cuda": (128, 128, 64)}
STEPS = {"cpu": 1, "cuda": 10}
WARM_UP_STEPS = {"cpu": 1, "cuda": EAGER_STEPS + 3}
ACCELERATIONS: dict[str, tuple[Acceleration, ...]] = {
    "cpu": (),
    "cuda": ("none", "compile", "graph", "compiled_graph"),
}
NNUNET_OPTIM = OptimConfig(learning_rate=1e-2, momentum=0.99, weight_decay=3e-5, clip_norm=12.0)  # SGD
COLUMNS = (
    report.NAME,
    report.PRECISION,
    report.BATCH,
    report.MS,
    report.LOW,
    report.HIGH,
    report.SPEED,
    report.GFLOP,
    report.TFLOPS,
    report.SHARE,
    report.MEMORY,
    report.RATIO,
    report.NOTE,
)
NOTE = (
    "ours: Segmentarium. ms, min, max: median, minimum and maximum of the blocks; each block times every network.\n"
    "time/ours: time of the row / time of ours at the same batch size; above 1, ours is faster.\n"
    "bound: matrix products {products}, or memory traffic at the bandwidth of a copy."
)
PRODUCTS = {"cpu": "in the shapes of each level's convolutions", "cuda": "of each level's convolutions at the peak"}
LOOP_ROW, BARE_STEP_ROW = "ours, whole loop of fit", "ours, its bare step"


@dataclass(frozen=True)
class Settings:
    """Settings of the training benchmark.

    Attributes
    ----------
    sub_volume : tuple of int, optional. Size in voxels (i, j, k); ``None``: 128x128x64 on CUDA, 64x64x64 on a CPU.
    channels : tuple of int. Channels of each level, full resolution first; limited to the levels the sub-volume allows.
    batches : tuple of int. Batch sizes; a group of rows for each.
    steps : int, optional. Steps of each network per block; ``None``: 10 on CUDA, 1 on a CPU.
    blocks : int. Number of blocks.
    optimizer : str, optional. Optimizer of Segmentarium with the other values of preset ``fast``; ``None``: the SGD
        with momentum of the other libraries.
    peers : bool. Measure nnU-Net and MONAI.
    same_precision : bool. Measure these also in Segmentarium's precision.
    article : bool, optional. Measure the network of preset ``article``; ``None``: on CUDA.
    accelerations : tuple of str, optional. Measure Segmentarium's step also in these accelerations; ``None``: all on
        CUDA, none on a CPU.
    loop : bool. Measure the trainer's whole loop at the first batch size.
    loop_s : float. Seconds of each of its epochs.
    roofline : bool. Report lower bounds, level by level, at the first batch size.
    """

    sub_volume: Size3 | None = None
    channels: tuple[int, ...] = CHANNELS
    batches: tuple[int, ...] = (1, 2, 4)
    steps: int | None = None
    blocks: int = 7
    optimizer: OptimizerName | None = None
    peers: bool = False
    same_precision: bool = False
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
        """Sub-volume size on this device."""
        return self.sub_volume or SUB_VOLUME[defaults_of(device)]

    def used_channels(self, device: torch.device) -> tuple[int, ...]:
        """Channels of the levels the sub-volume allows.

        Raises
        ------
        ConfigError
            If these are fewer than two.
        """
        size = self.size(device)
        channels = self.channels[: max_levels(size, len(self.channels))]
        if len(channels) < 2:
            raise ConfigError(
                f"sub_volume, channels: expected room for two levels or more, got {format_size(size)} voxels "
                f"and channels for {len(self.channels)} levels; choose even sides of 8 voxels or more, such as 64x64x64"
            )
        return channels

    def selection(self, device: torch.device) -> Selection:
        """Implementations to compare on this device."""
        article = device.type == "cuda" if self.article is None else self.article
        accelerations = ACCELERATIONS.get(device.type, ()) if self.accelerations is None else self.accelerations
        return Selection(self.peers, self.same_precision, article, accelerations)

    @property
    def optim(self) -> OptimConfig:
        """Optimizer of Segmentarium."""
        return NNUNET_OPTIM if self.optimizer is None else replace(preset("fast").optim, optimizer=self.optimizer)


def bench_train(settings: Settings, device_name: str, progress: TextProgressCallback) -> Report:
    """Measure training steps.

    Parameters
    ----------
    settings : Settings.
    device_name : str. "auto", "cpu" or "cuda".
    progress : callable. Called with (done, total, text).

    Raises
    ------
    ConfigError
        If the sub-volume allows fewer than two levels.
    DeviceError
        If the device is missing, or its memory does not suffice for Segmentarium's network.
    """
    device = resolve_device(device_name)
    set_num_threads(0)
    size, channels = settings.size(device), settings.used_channels(device)
    steps = settings.steps or STEPS[defaults_of(device)]
    implementations = select_implementations(channels, device, settings.optim, settings.selection(device))
    machine = Machine.current(device, resolve_precision("auto", device))
    peaks_before = matmul_peaks(device)
    measured: list[list[_MeasuredRow]] = []
    for batch in settings.batches:
        group = _BatchBenchmark(implementations, batch, size, device, progress)
        measured.append(group.measure(steps, settings.blocks))
        gc.collect()
    loop = _measure_loop(settings, channels, device, machine.precision, progress) if settings.loop else []
    peaks_after = matmul_peaks(device)  # noise of the machine only lowers a peak
    peaks = {name: max(tflops, peaks_after[name]) for name, tflops in peaks_before.items()}
    peak = peak_for(machine.precision, device, peaks)
    bounds: list[Row] = []
    if settings.roofline:
        progress(0, 1, "matrix products of each level")
        bounds = lower_bounds(plain_unet(channels), settings.batches[0], size, device, machine.precision, peak)
    rows: list[Row] = []
    for batch, group_rows in zip(settings.batches, measured, strict=True):
        timed = [
            with_times(m.row, m.seconds, batch=batch, peak_tflops=peak_for(m.row.precision, device, peaks))
            for m in group_rows
        ]
        ours = timed[0]
        rows += with_ratios(timed, ours)
        if batch == settings.batches[0]:
            loop_rows = [replace(m, row=replace(m.row, gflop=ours.gflop)) if m.seconds else m for m in loop]
            rows += [with_times(m.row, m.seconds, batch=batch, peak_tflops=peak) for m in loop_rows]
            rows += with_ratios(bounds, ours)
    shown_settings = dict(
        sub_volume=list(size),
        in_channels=IN_CHANNELS,
        classes=CLASSES,
        channels=list(channels),
        loss="dice_ce",
        steps=steps,
        blocks=settings.blocks,
        **(peer_versions() if settings.peers else {}),
    )
    notes = (NOTE.format(products=PRODUCTS[defaults_of(device)]), *_differing_operations(rows))
    return Report("train", machine, shown_settings, tuple(rows), COLUMNS, peaks, notes)


@dataclass(frozen=True)
class _MeasuredRow:
    """A row, and the seconds per step in each block; empty if the row has no measurement."""

    row: Row
    seconds: Sequence[float] = ()


class _BatchBenchmark:
    """All implementations at one batch size."""

    def __init__(
        self,
        implementations: Sequence[Implementation],
        batch: int,
        size: Size3,
        device: torch.device,
        progress: TextProgressCallback,
    ) -> None:
        self.implementations, self.batch, self.size, self.device = implementations, batch, size, device
        self.progress = progress
        self.image, self.label = random_batch(batch, size, device)

    def measure(self, steps: int, blocks: int) -> list[_MeasuredRow]:
        """Build and warm up every implementation, then time those that run in turns."""
        torch.compiler.reset()  # a network compiled for another batch size would be compiled for dynamic shapes
        rows: list[Row] = []
        workloads: dict[int, Workload] = {}  # by index of the row
        pass_s = 0.0
        for number, implementation in enumerate(self.implementations):
            self.progress(number, len(self.implementations), f"batch {self.batch}: preparing {implementation.name}")
            row, workload = self._prepare(implementation)
            rows.append(row)
            if workload is not None:
                workloads[number] = workload
                pass_s += seconds_per_call(workload, 1, self.device)
        if self.device.type == "cuda":
            for workload in workloads.values():  # capturing a graph freed the cached memory of the others
                workload()
        turns, prefix = blocks * len(workloads), f"batch {self.batch}: "
        self.progress(0, turns, f"{prefix}about {pass_s * steps * blocks:.0f} s")
        seconds = time_interleaved(
            list(workloads.values()),
            [steps] * len(workloads),
            blocks,
            self.device,
            RemainingTime(turns, self.progress, prefix),
        )
        times = dict(zip(workloads, seconds, strict=True))
        return [_MeasuredRow(row, times.get(number, ())) for number, row in enumerate(rows)]

    def _prepare(self, implementation: Implementation) -> tuple[Row, Workload | None]:
        """Count operations, build and warm up; the row reports a library that is missing or fails."""
        row = Row(implementation.name, implementation.precision, self.batch, note=implementation.note)
        try:
            gflop = count_gflop(implementation, self.batch, self.size)
            memory = PeakMemory(self.device)
            step = implementation.make_step(implementation.build_network().to(self.device).train())

            def run_step() -> None:
                with cudnn_benchmark(self.device, implementation.cudnn_benchmark):
                    step(self.image, self.label)

            workload = with_memory_retention(run_step, implementation.ours)
            if self.device.type == "cuda":
                seconds_per_call(workload, 1, self.device)
                memory.reset()
            seconds_per_call(workload, WARM_UP_STEPS[defaults_of(self.device)], self.device)
            note = "; ".join([row.note, *implementation.messages]).removeprefix("; ")
            return replace(row, gflop=gflop, peak_memory_mb=memory.read_mb(), note=note), workload
        except PeerMissingError as error:
            note = str(error)
        except Exception as error:
            out_of_memory = out_of_memory_error(error, self.device)
            if implementation is self.implementations[0] or (implementation.required and out_of_memory is None):
                raise (out_of_memory or error) from error
            note = "not enough memory" if out_of_memory is not None else f"failed: {first_line(error)}"
        gc.collect()  # a captured step refers to itself
        empty_cache(self.device)
        return replace(row, note=note), None


def _measure_loop(
    settings: Settings,
    channels: tuple[int, ...],
    device: torch.device,
    precision: str,
    progress: TextProgressCallback,
) -> list[_MeasuredRow]:
    """A row for the whole loop of the trainer, and one for its bare step, measured in turns."""
    batch = settings.batches[0]
    setup = LoopSetup(
        plain_unet(channels), settings.optim, precision, batch, settings.size(device), device, settings.loop_s
    )
    try:
        times = measure_loop(setup, lambda done, total: progress(done, total, f"batch {batch}: training loop"))
    except (MemoryError, RuntimeError) as error:
        if out_of_memory_error(error, device) is None:
            raise
        return [_MeasuredRow(Row(LOOP_ROW, precision, batch, note="not enough memory"))]
    note = f"drawing, augmentation, reports, {times.checkpoints} checkpoints; relative to the bare step of the next row"
    return [
        _MeasuredRow(Row(LOOP_ROW, precision, ratio=times.ratio, note=note), times.loop_s),
        _MeasuredRow(Row(BARE_STEP_ROW, precision, ratio=1.0, note="in turns with the loop"), times.bare_s),
    ]


def _differing_operations(rows: Sequence[Row]) -> list[str]:
    """A sentence about every network that does not do exactly the operations of Segmentarium's."""
    reference = {row.batch: row.gflop for row in reversed(rows) if row.name == "ours"}
    notes = []
    for row in rows:
        gflop = reference.get(row.batch)
        exempt = "article" in row.name or row.name.startswith("bound")
        if gflop and row.gflop and row.gflop != gflop and not exempt:
            notes.append(f"{row.name}, batch {row.batch}: {1000 * (row.gflop / gflop - 1):+.2f} per mille operations")
    return notes
