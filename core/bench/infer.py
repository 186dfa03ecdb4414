"""A whole volume segmented by ours, in joined sub-volumes and in one pass, beside MONAI's sliding window."""

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
from core.bench.contenders import CLASSES, IN_CHANNELS, plain_unet
from core.bench.machine import Machine, matmul_peaks, peak_of
from core.bench.peers import PeerMissingError, peer, versions
from core.bench.report import Report, Row, compared, timed
from core.bench.timing import PeakMemory, Show, at_home, in_turns
from core.compute.allocator import enable_freed_memory_retention
from core.compute.device import explain_memory, resolve_device, set_threads
from core.compute.precision import autocast, resolve_precision
from core.errors import ConfigError, first_line
from core.evaluation.confusion_counts import class_counts
from core.evaluation.metrics import dice_from_counts, nan_mean
from core.inference.sliding_window import AIR_LOGIT, head_box, predict_logits, tiles_at_once
from core.models import build_model
from core.types import Size3

SIZE: Size3 = (256, 192, 144)
CHANNELS = (16, 32, 64, 128)
TILE: Size3 = (128, 128, 64)
OVERLAP = 0.5
BLOCKS = {"cpu": 3, "cuda": 7}
SUBJECT = "subject-1"  # of the demo data; the ready-made model never saw it
MODALITIES, TISSUES = ("T1", "T2"), ("CSF", "GM", "WM")  # that it has
COLUMNS = (
    report.NAME, report.PRECISION, report.TILES, report.MS, report.LOW, report.HIGH, report.GFLOP, report.TFLOPS,
    report.SHARE, report.MEMORY, report.RATIO, report.DICE, report.AGREEMENT, report.NOTE,
)  # fmt: skip
NOTE = (
    "ms: median of the blocks, least, most, in turns. tiles: sub-volumes that the network saw; ours leaves out the\n"
    "air around the head. time/ours: time of the row / time of ours in tiles.\n"
    "agrees: share of voxels with the label that the last row gives them."
)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    model : checkpoint of a trained network, which segments a synthetic subject; ``None``: a network without training
        that segments noise.
    size, channels, tile : of that noise and that network, and of its sub-volumes.
    blocks : how often each way has its turn; ``None``: 3 on a CPU, 7 on CUDA.
    peers : MONAI too.
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
                f"{'x'.join(map(str, self.tile))}; choose such a size, or fewer channels"
            )


@dataclass(frozen=True)
class Case:
    """A network and the volume that it segments.

    Attributes
    ----------
    name : for the table.
    network : on the device, in evaluation mode.
    image : float32 (channel, i, j, k), on the device.
    truth : uint8 (i, j, k), on the device, or ``None``.
    classes : with the background.
    tile : size of a sub-volume in voxels.
    """

    name: str
    network: nn.Module
    image: Tensor
    truth: Tensor | None
    classes: int
    tile: Size3


def bench_infer(settings: Settings, device_name: str, show: Show) -> Report:
    """Measure the segmentation of one volume.

    Parameters
    ----------
    settings : what is measured.
    device_name : "auto", "cpu" or "cuda".
    show : called with (done, total, words).

    Raises
    ------
    CheckpointError
        If the model cannot be read, or takes other images than the synthetic subject has.
    DeviceError
        If the device is missing or its memory does not suffice.
    """
    device = resolve_device(device_name)
    set_threads(0)
    precision = resolve_precision("auto", device)
    case = _trained(settings.model, device, show) if settings.model is not None else _untrained(settings, device)
    machine = Machine.here(device, precision)
    before = matmul_peaks(device)
    ways = ways_of(case, precision, settings.peers)
    try:
        rows = measure_ways(case, ways, settings.blocks or BLOCKS[device.type], show)
    except (MemoryError, RuntimeError) as error:
        raise (explain_memory(error, device) or error) from error
    again = matmul_peaks(device)  # noise only ever makes it less
    peaks = {name: max(tflops, again[name]) for name, tflops in before.items()}
    rows = [_beside_peak(row, peak_of(row.precision, device, peaks)) for row in rows]
    told: dict[str, Any] = dict(model=case.name, volume=list(case.image.shape), tile=list(case.tile), overlap=OVERLAP)
    told |= versions() if settings.peers else {}
    return Report("infer", machine, told, tuple(rows), COLUMNS, peaks, (NOTE,))


@dataclass(frozen=True)
class Way:
    """A row that is to be filled, and what it does: an image (channel, i, j, k) to logits (class, i, j, k)."""

    row: Row
    predict: Callable[[], Tensor] | None
    ours: bool = False


def ways_of(case: Case, precision: str, peers: bool) -> list[Way]:
    """Ours in tiles and in one pass; MONAI's as it comes, in the precision of ours, and on the head alone as ours."""
    ways = [_ours(case, "tiles", precision), _ours(case, "whole", precision)]
    if peers:
        whole = (slice(None), slice(None), slice(None))
        ways += [_monai(case, p, whole, "whole volume") for p in dict.fromkeys(("fp32", precision))]
        head = head_box(case.image)
        if tuple(case.image[(slice(None), *head)].shape) != tuple(case.image.shape):
            ways.append(_monai(case, precision, head, "head only"))
    return ways


def _ours(case: Case, mode: str, precision: str) -> Way:
    def predict() -> Tensor:
        return predict_logits(
            case.network, case.image, mode=mode, tile=case.tile, overlap=OVERLAP, precision=precision
        )  # fmt: skip

    return Way(Row(f"ours, {mode}", precision), predict, ours=True)


def _monai(case: Case, precision: str, box: tuple[slice, slice, slice], name: str) -> Way:
    """MONAI's sliding window over a box of the volume; what lies outside is background."""
    row = Row(f"MONAI sliding window, {name}", precision)
    try:
        inferer = peer("monai.inferers").SlidingWindowInferer(
            roi_size=case.tile,
            sw_batch_size=tiles_at_once(case.tile, case.image.device),
            overlap=OVERLAP,
            mode="gaussian",
        )
    except PeerMissingError as error:
        return Way(replace(row, note=str(error)), None)

    @torch.no_grad()
    def predict() -> Tensor:
        with autocast(case.image.device, precision):
            inside = inferer(case.image[(None, slice(None), *box)], case.network)[0]
        if inside.shape[1:] == case.image.shape[1:]:
            return inside
        logits = inside.new_zeros((case.classes, *case.image.shape[1:]))
        logits[0] = AIR_LOGIT
        logits[(slice(None), *box)] = inside
        return logits

    return Way(row, predict)


def measure_ways(case: Case, ways: list[Way], blocks: int, show: Show) -> list[Row]:
    """One pass of each to look at what comes out, then timed turns; what fails in a peer is told in its row."""
    device = case.image.device
    rows, works, running, pass_s = [], [], [], 0.0
    labels: dict[int, Tensor] = {}
    for number, way in enumerate(ways):
        show(number, len(ways), f"preparing {way.row.name}")
        rows.append(way.row)
        if way.predict is None:
            continue
        memory, began = PeakMemory(device), time.perf_counter()
        try:
            with _seen_by(case.network) as seen:
                enable_freed_memory_retention(way.ours)
                labels[number] = way.predict().argmax(dim=0).to(torch.uint8)
        except Exception as error:
            if way.ours:
                raise
            rows[number] = replace(way.row, note=f"failed: {first_line(error)}")
            continue
        rows[number] = replace(
            way.row, gflop=_gflop(case.network, seen), peak_memory_mb=memory.read_mb(),
            tiles=sum(shape[0] for shape in seen), dice=_dice(case, labels[number]),
        )  # fmt: skip
        pass_s += time.perf_counter() - began
        works.append(at_home(way.predict, way.ours))
        running.append(number)
    began, turns = time.perf_counter(), blocks * len(works)
    show(0, turns, f"about {pass_s * blocks:.0f} s")

    def tell(done: int) -> None:
        show(done, turns, f"about {(time.perf_counter() - began) / done * (turns - done):.0f} s left")

    theirs = next((n for n in reversed(running) if rows[n].name.startswith("MONAI")), None)  # most like ours
    for number, seconds in zip(running, in_turns(works, [1] * len(works), blocks, device, tell), strict=True):
        row = timed(rows[number], seconds)
        if theirs is not None:
            row = replace(row, agreement=float((labels[number] == labels[theirs]).float().mean()))
        rows[number] = row
    return compared(rows, rows[0])


def _beside_peak(row: Row, peak_tflops: float | None) -> Row:
    return row if row.tflops is None or not peak_tflops else replace(row, share_of_peak=row.tflops / peak_tflops)


def _dice(case: Case, found: Tensor) -> float | None:
    """Mean Dice of the classes, the background left out; ``None`` without a truth."""
    if case.truth is None:
        return None
    counts = torch.stack(class_counts(found[None], case.truth[None], case.classes))
    return nan_mean(dice_from_counts(*counts.cpu().numpy())[1:])


@contextmanager
def _seen_by(network: nn.Module) -> Iterator[list[tuple[int, ...]]]:
    """While the block runs, the shape (batch, channel, i, j, k) of all that the network is given."""
    seen: list[tuple[int, ...]] = []
    hook = network.register_forward_pre_hook(lambda module, images: seen.append(tuple(images[0].shape)))
    try:
        yield seen
    finally:
        hook.remove()


@torch.no_grad()
def _gflop(network: nn.Module, shapes: list[tuple[int, ...]]) -> float:
    """The operations for images of these shapes, in 10^9; counted without computing anything."""
    shadow, total = copy.deepcopy(network).to("meta"), 0
    for shape in set(shapes):
        with FlopCounterMode(display=False) as counter:
            shadow(torch.empty(shape, device="meta"))
        total += counter.get_total_flops() * shapes.count(shape)
    return total / 1e9


def _untrained(settings: Settings, device: torch.device) -> Case:
    torch.manual_seed(0)
    network = build_model(plain_unet(settings.channels), IN_CHANNELS, CLASSES).to(device).eval()
    image = torch.randn(IN_CHANNELS, *settings.size, generator=torch.Generator().manual_seed(0)).to(device)
    name = f"untrained {'-'.join(map(str, settings.channels))}"
    return Case(name, network, image, None, CLASSES, settings.tile)


def _trained(path: Path, device: torch.device, show: Show) -> Case:
    """A trained network, and a synthetic subject that is made for it."""
    from core.datasets import open_dataset
    from core.datasets.prepare import prepare_subject
    from core.datasets.synthetic.demo import ensure_subject
    from core.errors import CheckpointError
    from core.inference.predictor import Choices, Predictor

    segmenter = Predictor(path, Choices(device=device.type))
    about = segmenter.description
    classes = about.label_space.names
    if not set(about.modalities) <= set(MODALITIES) or not set(classes[1:]) <= set(TISSUES):
        raise CheckpointError(
            f"{path}: expected a network for {', '.join(MODALITIES)} that knows {', '.join(TISSUES)}, as the synthetic "
            f"subject has them; found one for {', '.join(about.modalities)} and {', '.join(classes[1:])}: give --size "
            "and --channels instead"
        )
    with tempfile.TemporaryDirectory() as folder:
        ensure_subject(folder, SUBJECT, progress=lambda done, total: show(done, total, "making a synthetic subject"))
        dataset = open_dataset(folder)
        subject = prepare_subject(
            dataset, SUBJECT, about.modalities, classes[1:], about.train_config.data.normalisation, about.spacing_mm
        )
    image = torch.from_numpy(np.ascontiguousarray(subject.image, dtype=np.float32)).to(device)
    truth = torch.from_numpy(np.ascontiguousarray(subject.label)).to(device)
    return Case(path.parent.name, segmenter.model, image, truth, len(classes), segmenter.tile)
