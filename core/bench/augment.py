"""Sub-volumes drawn and augmented by ours, beside pipelines of the same operations in MONAI and TorchIO."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from core.augmentation.augmenter import Augmenter
from core.bench import report
from core.bench.contenders import CLASSES, IN_CHANNELS
from core.bench.machine import Machine
from core.bench.peers import PeerMissingError, peer, versions
from core.bench.report import Report, Row, compared, timed
from core.bench.timing import Show, Work, at_home, in_turns
from core.compute.device import out_of_memory_error, resolve_device, set_num_threads
from core.compute.precision import resolve_precision
from core.config import AugmentConfig
from core.errors import ConfigError, first_line
from core.sampling.patches import DeviceSubjects, Place
from core.types import Size3, TrainingSubject

SUB_VOLUME: Size3 = (128, 128, 64)
VOLUME: Size3 = (144, 192, 160)
DRAWS = 9
NOISE = 0.1
STEPS = 10  # sub-volumes in a row, on a GPU
MARGIN = 1.4  # size of the region that a peer cuts before it turns and scales it, relative to a sub-volume's
COLUMNS = (report.NAME, report.BATCH, report.MS, report.LOW, report.HIGH, report.SPEED, report.RATIO, report.NOTE)
NOTE = (
    "ms: median of the draws, least, most, in turns. time/ours: time of the row / time of ours.\n"
    "Image trilinear, label nearest neighbour; each operation with the given probability, but noise, which is always\n"
    "there. Turning, scaling and bending are one interpolation in all three."
)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    sub_volume : in voxels.
    volume : that it is cut from.
    probability : of each operation.
    draws : how many sub-volumes each way makes.
    peers : MONAI and TorchIO too.
    """

    sub_volume: Size3 = SUB_VOLUME
    volume: Size3 = VOLUME
    probability: float = 1.0
    draws: int = DRAWS
    peers: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"probability: expected 0 to 1, got {self.probability}")
        if self.draws < 1:
            raise ConfigError(f"draws: expected at least 1, got {self.draws}")
        if any(n > v for n, v in zip(self.sub_volume, self.volume, strict=True)):
            raise ConfigError(
                f"sub_volume: expected at most the volume's {'x'.join(map(str, self.volume))} voxels, got "
                f"{'x'.join(map(str, self.sub_volume))}; choose a smaller one, or a larger --volume"
            )


def bench_augment(settings: Settings, device_name: str, show: Show) -> Report:
    """Measure augmentation: ours on the device that trains, the peers on the CPU in this process, and on a GPU those
    that can work there. What is on a GPU makes many sub-volumes in a row, as training does.

    Parameters
    ----------
    settings : what is measured.
    device_name : "auto", "cpu" or "cuda".
    show : called with (done, total, words).

    Raises
    ------
    DeviceError
        If the device is missing or its memory does not suffice.
    """
    device = resolve_device(device_name)
    set_num_threads(0)
    machine = Machine.here(device, resolve_precision("auto", device))
    subject = _subject(settings.volume)
    makers: list[tuple[Row, Callable[[], Work]]] = [(Row("ours", "fp32"), lambda: _ours(subject, settings, device))]
    if settings.peers:
        where = "on the CPU; " if device.type == "cuda" else ""
        makers += [
            (
                Row("MONAI", "fp32", note=where + "Rand3DElasticd and eight more"),
                lambda: _monai(subject, settings, torch.device("cpu")),
            ),
            (
                Row("TorchIO", "fp32", note=where + "brightness and contrast left out"),
                lambda: _torchio(subject, settings),
            ),
        ]
        if device.type == "cuda":
            makers.insert(2, (Row("MONAI on the GPU", "fp32"), lambda: _monai(subject, settings, device)))
    rows: list[Row] = []
    works: list[Work] = []
    running: list[int] = []
    steps: list[int] = []
    try:
        for row, make in makers:
            show(len(rows), len(makers), f"preparing {row.name}")
            rows.append(row)
            ours = row is makers[0][0]
            try:
                work = at_home(make(), ours)
                steps_now = STEPS if device.type == "cuda" and (ours or "GPU" in row.name) else 1
                for _ in range(steps_now):
                    work()
            except PeerMissingError as error:
                rows[-1] = replace(row, note=str(error))
                continue
            except Exception as error:
                if ours:
                    raise
                rows[-1] = replace(row, note=f"failed: {first_line(error)}")
                continue
            steps.append(steps_now)
            running.append(len(rows) - 1)
            works.append(work)
        began, turns = time.perf_counter(), settings.draws * len(works)

        def tell(done: int) -> None:
            show(done, turns, f"about {(time.perf_counter() - began) / done * (turns - done):.0f} s left")

        for number, seconds in zip(running, in_turns(works, steps, settings.draws, device, tell), strict=True):
            rows[number] = timed(rows[number], seconds)
    except (MemoryError, RuntimeError) as error:
        raise (out_of_memory_error(error, device) or error) from error
    told: dict[str, Any] = dict(
        sub_volume=list(settings.sub_volume), volume=[IN_CHANNELS, *settings.volume], probability=settings.probability,
        draws=settings.draws, **(versions() if settings.peers else {}),
    )  # fmt: skip
    return Report("augment", machine, told, tuple(compared(rows, rows[0])), COLUMNS, {}, (NOTE,))


def _subject(volume: Size3) -> TrainingSubject:
    """Noise, of which no voxel is 0, so that nothing is spared as air."""
    chance = np.random.default_rng(0)
    image = chance.standard_normal((IN_CHANNELS, *volume), dtype=np.float32)
    return TrainingSubject("noise", image, chance.integers(0, CLASSES, volume, dtype=np.uint8), (1.0, 1.0, 1.0))


def _ours(subject: TrainingSubject, settings: Settings, device: torch.device) -> Work:
    p = settings.probability
    config = AugmentConfig(flip=p, affine=p, elastic=p, intensity=p, noise=NOISE)
    augment, subjects = Augmenter(config, settings.sub_volume), DeviceSubjects([subject], device)
    generator = torch.Generator().manual_seed(0)

    def work() -> object:
        free = [v - n + 1 for v, n in zip(settings.volume, settings.sub_volume, strict=True)]
        i, j, k = (int(torch.randint(n, (1,), generator=generator)) for n in free)
        return augment(subjects, [Place(0, (i, j, k))], generator)

    return work


def _region(settings: Settings) -> list[int]:
    """What a peer cuts: a sub-volume with room to turn and scale it, as far as the volume has it."""
    return [min(v, round(n * MARGIN)) for n, v in zip(settings.sub_volume, settings.volume, strict=True)]


def _monai(subject: TrainingSubject, settings: Settings, device: torch.device) -> Work:
    t = peer("monai.transforms")
    p, reach, image = settings.probability, AugmentConfig(), ["image"]
    angle = float(np.deg2rad(reach.rotation_deg))
    pipeline = t.Compose([
        t.RandSpatialCropd(["image", "label"], roi_size=_region(settings), random_size=False),
        t.Rand3DElasticd(
            ["image", "label"], sigma_range=(5, 7), magnitude_range=(200, 300), spatial_size=settings.sub_volume,
            prob=p, rotate_range=[angle] * 3, scale_range=[reach.scaling] * 3, mode=("bilinear", "nearest"),
            padding_mode="zeros", device=device,
        ),
        t.RandFlipd(["image", "label"], spatial_axis=0, prob=p),
        t.RandScaleIntensityd(image, factors=(-0.25, 0.3), prob=p),
        t.RandShiftIntensityd(image, offsets=0.2, prob=p),
        t.RandAdjustContrastd(image, gamma=(0.7, 1.5), prob=p),
        t.RandBiasFieldd(image, coeff_range=(0.0, 0.1), prob=p),
        t.RandGaussianSmoothd(image, sigma_x=(0.4, 1.0), sigma_y=(0.4, 1.0), sigma_z=(0.4, 1.0), prob=p),
        t.RandSimulateLowResolutiond(image, zoom_range=(0.5, 1.0), prob=p),
        t.RandGaussianNoised(image, std=NOISE, prob=1.0),
    ]).set_random_state(seed=0)  # fmt: skip
    arrays = {"image": subject.image, "label": subject.label[None]}
    data = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return lambda: pipeline(dict(data))


def _torchio(subject: TrainingSubject, settings: Settings) -> Work:
    tio = peer("torchio")
    p, reach, region = settings.probability, AugmentConfig(), _region(settings)
    pipeline = tio.Compose([
        tio.RandomAffineElasticDeformation(
            affine_kwargs=dict(scales=reach.scaling, degrees=reach.rotation_deg), p=p,
            elastic_kwargs=dict(num_control_points=tuple(max(5, n // 10) for n in region), max_displacement=4.0),
        ),
        tio.CropOrPad(settings.sub_volume),
        tio.RandomFlip(axes=0, flip_probability=p),
        tio.RandomGamma(log_gamma=(-0.35, 0.4), p=p),
        tio.RandomBiasField(coefficients=0.3, p=p),
        tio.RandomBlur(std=(0.4, 1.0), p=p),
        tio.RandomAnisotropy(downsampling=(1, 2), p=p),
        tio.RandomNoise(std=(0, NOISE), p=1.0),
    ])  # fmt: skip
    chance = np.random.default_rng(0)
    image, label = torch.from_numpy(subject.image), torch.from_numpy(subject.label[None])

    def work() -> object:
        start = [int(chance.integers(v - n + 1)) for v, n in zip(settings.volume, region, strict=True)]
        box = (slice(None), *(slice(s, s + n) for s, n in zip(start, region, strict=True)))
        return pipeline(tio.Subject(image=tio.ScalarImage(tensor=image[box]), label=tio.LabelMap(tensor=label[box])))

    return work
