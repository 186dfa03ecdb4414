"""Benchmark of inference: a whole volume segmented by Segmentarium in tiles and in one pass, and by MONAI's sliding
window."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from core.bench import report
from core.bench.implementations import CLASSES, IN_CHANNELS, plain_unet
from core.bench.machine import Machine, defaults_of, matmul_peaks, peak_for
from core.bench.peers import PeerMissingError, import_peer, peer_versions
from core.bench.report import Report, Row, with_ratios, with_times
from core.bench.timing import PeakMemory, RemainingTime, time_interleaved, with_memory_retention
from core.compute.allocator import set_freed_memory_retention
from core.compute.device import out_of_memory_error, resolve_device, set_num_threads
from core.compute.precision import autocast, resolve_precision
from core.errors import CheckpointError, ConfigError, first_line
from core.evaluation.confusion_counts import class_counts
from core.evaluation.metrics import dice_from_counts, nan_mean
from core.formatting import format_size
from core.inference.logit_volume import BACKGROUND_LOGIT
from core.inference.memory_limit import tile_batch_size
from core.inference.sliding_window import InferenceOptions, foreground_box, predict_logits
from core.models.blocks import SegmentationNetwork
from core.models.build import build_model
from core.models.own_source import failure_in_code
from core.types import Size3, TextProgressCallback

SIZE: Size3 = (256, 192, 144)
CHANNELS = (16, 32, 64, 128)
TILE: Size3 = (128, 128, 64)
OVERLAP = 0.5
BLOCKS = {"cpu": 3, "cuda": 7}
SUBJECT = "subject-1"  # of the demo data; held out from the training of the ready-made model
MODALITIES, TISSUES = ("T1", "T2"), ("CSF", "GM", "WM")  # of the demo data
COLUMNS = (
    report.NAME,
    report.PRECISION,
    report.TILES,
    report.MS,
    report.LOW,
    report.HIGH,
    report.GFLOP,
    report.TFLOPS,
    report.SHARE,
    report.MEMORY,
    report.RATIO,
    report.DICE,
    report.AGREEMENT,
    report.NOTE,
)
NOTE = (
    "ours: Segmentarium. ms, min, max: median, minimum and maximum of the blocks, made in turns. tiles: sub-volumes\n"
    "the network computed; ours skips the background around the head. time/ours: time of the row / time of ours in\n"
    "tiles. "
    "agrees: share of voxels with the same label as in the last row."
)


@dataclass(frozen=True)
class Settings:
    """Settings of the inference benchmark.

    Attributes
    ----------
    model : Path, optional. Checkpoint of a trained network, which segments a synthetic subject; ``None``: an untrained
        network segments noise.
    size : tuple of int. Size of the noise volume in voxels (i, j, k).
    channels : tuple of int. Channels of each level of the untrained network.
    tile : tuple of int. Tile size of the untrained network in voxels (i, j, k).
    blocks : int, optional. Measurements per method; ``None``: 3 on a CPU, 7 on CUDA.
    peers : bool. Measure MONAI.
    """

    model: Path | None = None
    size: Size3 = SIZE
    channels: tuple[int, ...] = CHANNELS
    tile: Size3 = TILE
    blocks: int | None = None
    peers: bool = False

    def __post_init__(self) -> None:
        if self.blocks is not None and self.blocks < 1:
            raise ConfigError(f"blocks: expected at least 1, got {self.blocks}")
        if min(self.size) < 1 or min(self.tile) < 1:
            raise ConfigError(f"size, tile: expected at least 1 voxel a side, got {self.size} and {self.tile}")
        divisor = 2 ** (len(self.channels) - 1)
        if self.model is None and any(n % divisor for n in self.tile):
            raise ConfigError(
                f"tile: expected multiples of {divisor}, which {len(self.channels)} levels can halve, got "
                f"{format_size(self.tile)}; choose multiples, or fewer channels"
            )


@dataclass(frozen=True)
class Case:
    """A network and the volume it segments.

    Attributes
    ----------
    name : str.
    network : SegmentationNetwork. On the device, in evaluation mode.
    image : Tensor, float32, shape (channel, i, j, k). On the device.
    truth : Tensor, uint8, shape (i, j, k), optional. On the device.
    classes : int. Number of classes, background included.
    tile : tuple of int. Tile size in voxels (i, j, k).
    """

    name: str
    network: SegmentationNetwork
    image: Tensor
    truth: Tensor | None
    classes: int
    tile: Size3


@dataclass(frozen=True)
class Method:
    """A method of segmentation to measure.

    Attributes
    ----------
    row : Row. Row of the report for its measurements.
    predict : callable, optional. Returns logits, shape (class, i, j, k); ``None`` if its library is missing.
    ours : bool. Segmentarium's: it runs with the allocator settings of inference, and its errors are raised.
    """

    row: Row
    predict: Callable[[], Tensor] | None
    ours: bool = False


def bench_infer(settings: Settings, device_name: str, progress: TextProgressCallback) -> Report:
    """Measure the segmentation of one volume.

    Parameters
    ----------
    settings : Settings.
    device_name : str. "auto", "cpu" or "cuda".
    progress : callable. Called with (done, total, text).

    Raises
    ------
    CheckpointError
        If the model cannot be read, or needs other images than the synthetic subject has.
    ConfigError
        If the code of a user's own network raises an error.
    DeviceError
        If the device is missing or its memory does not suffice.
    """
    device = resolve_device(device_name)
    set_num_threads(0)
    precision = resolve_precision("auto", device)
    if settings.model is None:
        case = _untrained_case(settings, device)
    else:
        case = _trained_case(settings.model, device, progress)
    machine = Machine.current(device, precision)
    peaks_before = matmul_peaks(device)
    methods = methods_for(case, precision, settings.peers)
    try:
        rows = measure_methods(case, methods, settings.blocks or BLOCKS[defaults_of(device)], progress)
    except Exception as error:
        if (out_of_memory := out_of_memory_error(error, device)) is not None:
            raise out_of_memory from error
        if failure := failure_in_code(case.network.config.model, error):
            raise ConfigError(failure) from error
        raise
    peaks_after = matmul_peaks(device)  # noise of the machine only lowers a peak
    peaks = {name: max(tflops, peaks_after[name]) for name, tflops in peaks_before.items()}
    rows = [_with_share_of_peak(row, peak_for(row.precision, device, peaks)) for row in rows]
    shown_settings: dict[str, Any] = dict(
        model=case.name,
        volume=list(case.image.shape),
        tile=list(case.tile),
        overlap=OVERLAP,
        **(peer_versions() if settings.peers else {}),
    )
    return Report("infer", machine, shown_settings, tuple(rows), COLUMNS, peaks, (NOTE,))


def methods_for(case: Case, precision: str, peers: bool) -> list[Method]:
    """Segmentarium in tiles and in one pass; MONAI in fp32, in Segmentarium's precision, and on the foreground."""
    methods = [_segmentarium(case, mode, precision) for mode in ("tiles", "whole")]
    if peers:
        whole = (slice(None), slice(None), slice(None))
        methods += [_monai(case, p, whole, "whole volume") for p in dict.fromkeys(("fp32", precision))]
        foreground = foreground_box(case.image)
        if case.image[(slice(None), *foreground)].shape != case.image.shape:
            methods.append(_monai(case, precision, foreground, "head only"))
    return methods


def measure_methods(case: Case, methods: list[Method], blocks: int, progress: TextProgressCallback) -> list[Row]:
    """Check the result of every method in one pass, then time those that run in turns; a row reports a library that
    fails."""
    device = case.image.device
    rows = [method.row for method in methods]
    labels: dict[int, Tensor] = {}  # by index of the row
    workloads: dict[int, Callable[[], object]] = {}
    pass_s = 0.0
    for number, method in enumerate(methods):
        progress(number, len(methods), f"preparing {method.row.name}")
        if method.predict is None:
            continue
        memory, started = PeakMemory(device), time.perf_counter()
        try:
            with _recorded_input_shapes(case.network) as shapes:
                set_freed_memory_retention(method.ours)
                labels[number] = method.predict().argmax(dim=0).to(torch.uint8)
        except Exception as error:
            if method.ours:
                raise
            rows[number] = replace(method.row, note=f"failed: {first_line(error)}")
            continue
        rows[number] = replace(
            method.row,
            gflop=_count_gflop(case.network, shapes),
            peak_memory_mb=memory.read_mb(),
            tiles=sum(shape[0] for shape in shapes),
            dice=_mean_dice(case, labels[number]),
        )
        pass_s += time.perf_counter() - started
        workloads[number] = with_memory_retention(method.predict, method.ours)
    turns = blocks * len(workloads)
    progress(0, turns, f"about {pass_s * blocks:.0f} s")
    seconds = time_interleaved(
        list(workloads.values()), [1] * len(workloads), blocks, device, RemainingTime(turns, progress)
    )
    monai = next((n for n in reversed(workloads) if rows[n].name.startswith("MONAI")), None)  # closest to ours
    for number, times in zip(workloads, seconds, strict=True):
        row = with_times(rows[number], times)
        if monai is not None:
            row = replace(row, agreement=float((labels[number] == labels[monai]).float().mean()))
        rows[number] = row
    return with_ratios(rows, rows[0])


def _segmentarium(case: Case, mode: str, precision: str) -> Method:
    options = InferenceOptions(mode, case.tile, OVERLAP, precision)
    return Method(Row(f"ours, {mode}", precision), lambda: predict_logits(case.network, case.image, options), ours=True)


def _monai(case: Case, precision: str, box: tuple[slice, slice, slice], name: str) -> Method:
    """MONAI's sliding window over a box of the volume; the rest is background."""
    row = Row(f"MONAI sliding window, {name}", precision)
    try:
        inferer = import_peer("monai.inferers").SlidingWindowInferer(
            roi_size=case.tile,
            sw_batch_size=tile_batch_size(case.tile, case.image.device),
            overlap=OVERLAP,
            mode="gaussian",
        )
    except PeerMissingError as error:
        return Method(replace(row, note=str(error)), None)

    @torch.no_grad()
    def predict() -> Tensor:
        with autocast(case.image.device, precision):
            box_logits = inferer(case.image[(None, slice(None), *box)], case.network)[0]
        if box_logits.shape[1:] == case.image.shape[1:]:
            return box_logits
        logits = box_logits.new_zeros((case.classes, *case.image.shape[1:]))
        logits[0] = BACKGROUND_LOGIT
        logits[(slice(None), *box)] = box_logits
        return logits

    return Method(row, predict)


def _with_share_of_peak(row: Row, peak_tflops: float | None) -> Row:
    return row if row.tflops is None or not peak_tflops else replace(row, share_of_peak=row.tflops / peak_tflops)


def _mean_dice(case: Case, prediction: Tensor) -> float | None:
    """Mean Dice of the classes without background; ``None`` without a truth."""
    if case.truth is None:
        return None
    counts = torch.stack(class_counts(prediction[None], case.truth[None], case.classes))
    return nan_mean(dice_from_counts(*counts.cpu().numpy())[1:])


@contextmanager
def _recorded_input_shapes(network: nn.Module) -> Iterator[list[tuple[int, ...]]]:
    """Shapes (batch, channel, i, j, k) of the network's inputs while the block runs."""
    shapes: list[tuple[int, ...]] = []
    hook = network.register_forward_pre_hook(lambda module, images: shapes.append(tuple(images[0].shape)))
    try:
        yield shapes
    finally:
        hook.remove()


@torch.no_grad()
def _count_gflop(network: nn.Module, shapes: list[tuple[int, ...]]) -> float:
    """Operations for inputs of these shapes in 10^9, counted on the meta device."""
    meta_network, flop = copy.deepcopy(network).to("meta"), 0
    for shape in set(shapes):
        with FlopCounterMode(display=False) as counter:
            meta_network(torch.empty(shape, device="meta"))
        flop += counter.get_total_flops() * shapes.count(shape)
    return flop / 1e9


def _untrained_case(settings: Settings, device: torch.device) -> Case:
    torch.manual_seed(0)
    network = build_model(plain_unet(settings.channels), IN_CHANNELS, CLASSES).to(device).eval()
    image = torch.randn(IN_CHANNELS, *settings.size, generator=torch.Generator().manual_seed(0)).to(device)
    name = f"untrained {'-'.join(map(str, settings.channels))}"
    return Case(name, network, image, None, CLASSES, settings.tile)


def _trained_case(path: Path, device: torch.device, progress: TextProgressCallback) -> Case:
    """A trained network, and a synthetic subject made for it."""
    from core.datasets import open_dataset  # needs nibabel, which training has not
    from core.datasets.prepare import prepare_subject
    from core.datasets.synthetic.demo import ensure_subject
    from core.inference.predictor import InferenceOverrides, Predictor

    predictor = Predictor(path, InferenceOverrides(device=device.type))
    metadata = predictor.metadata
    classes = metadata.label_space.names
    if not set(metadata.modalities) <= set(MODALITIES) or not set(classes[1:]) <= set(TISSUES):
        raise CheckpointError(
            f"{path}: expected a network with the modalities {', '.join(MODALITIES)} and the classes "
            f"{', '.join(TISSUES)} of the synthetic subject, found one with {', '.join(metadata.modalities)} and "
            f"{', '.join(classes[1:])}; give --size and --channels instead"
        )
    with tempfile.TemporaryDirectory() as folder:
        ensure_subject(
            folder, SUBJECT, progress=lambda done, total: progress(done, total, "making a synthetic subject")
        )
        dataset = open_dataset(folder)
        subject = prepare_subject(
            dataset, SUBJECT, metadata.modalities, classes[1:], metadata.normaliser, metadata.spacing_mm
        )
    image = torch.from_numpy(np.ascontiguousarray(subject.image, dtype=np.float32)).to(device)
    truth = torch.from_numpy(np.ascontiguousarray(subject.label)).to(device)
    return Case(path.parent.name, predictor.model, image, truth, len(classes), predictor.options.tile)
