"""Benchmark of augmentation: sub-volumes drawn and augmented by Segmentarium, and by pipelines of the same operations
in MONAI and TorchIO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from core.augmentation.augmenter import Augmenter
from core.bench import report
from core.bench.implementations import CLASSES, IN_CHANNELS
from core.bench.machine import Machine
from core.bench.peers import PeerMissingError, import_peer, peer_versions
from core.bench.report import Report, Row, with_ratios, with_times
from core.bench.timing import RemainingTime, Workload, time_interleaved, with_memory_retention
from core.compute.device import out_of_memory_error, resolve_device, set_num_threads
from core.compute.precision import resolve_precision
from core.config import AugmentConfig
from core.errors import ConfigError, first_line
from core.formatting import format_size
from core.sampling.patches import PatchLocation, ResidentSubjects
from core.types import Size3, TextProgressCallback, TrainingSubject

SUB_VOLUME: Size3 = (128, 128, 64)
VOLUME: Size3 = (144, 192, 160)
DRAWS = 9
NOISE_STD = 0.1
GPU_CALLS = 10  # sub-volumes per measurement on a GPU, as training makes them
REGION_SCALE = 1.4  # region that MONAI and TorchIO crop before the affine transform, relative to the sub-volume
COLUMNS = (
    report.NAME,
    report.BATCH,
    report.MS,
    report.LOW,
    report.HIGH,
    report.SPEED,
    report.RATIO,
    report.NOTE,
)
NOTE = (
    "ours: Segmentarium. ms, min, max: median, minimum and maximum of the draws, made in turns. time/ours: time of\n"
    "the row / time of ours. Image trilinear, label nearest neighbour; each operation has the given probability;\n"
    "noise is added always. Rotation, scaling and elastic deformation are one interpolation in all three."
)


@dataclass(frozen=True)
class Settings:
    """Settings of the augmentation benchmark.

    Attributes
    ----------
    sub_volume : tuple of int. Size in voxels (i, j, k).
    volume : tuple of int. Size of the volume to draw from, in voxels.
    probability : float. Probability of each operation, 0 to 1.
    draws : int. Sub-volumes of each library.
    peers : bool. Measure MONAI and TorchIO.
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
                f"sub_volume: expected at most the volume's {format_size(self.volume)} voxels, got "
                f"{format_size(self.sub_volume)}; choose a smaller one, or a larger --volume"
            )


@dataclass(frozen=True)
class Pipeline:
    """An augmentation pipeline.

    Attributes
    ----------
    row : Row. To fill in.
    build : callable. Makes the function that draws one sub-volume.
    calls : int. Sub-volumes per measurement.
    ours : bool. Segmentarium's: it runs with the allocator settings of the trainer, and its errors are raised.
    """

    row: Row
    build: Callable[[], Workload]
    calls: int = 1
    ours: bool = False


def bench_augment(settings: Settings, device_name: str, progress: TextProgressCallback) -> Report:
    """Measure augmentation: Segmentarium on the device that trains; MONAI and TorchIO on the CPU in this process, and
    MONAI also on a GPU.

    Parameters
    ----------
    settings : Settings.
    device_name : str. "auto", "cpu" or "cuda".
    progress : callable. Called with (done, total, text).

    Raises
    ------
    DeviceError
        If the device is missing or its memory does not suffice.
    """
    device = resolve_device(device_name)
    set_num_threads(0)
    machine = Machine.current(device, resolve_precision("auto", device))
    try:
        rows = _measure(_pipelines(settings, device), settings.draws, device, progress)
    except (MemoryError, RuntimeError) as error:
        raise (out_of_memory_error(error, device) or error) from error
    shown_settings = dict(
        sub_volume=list(settings.sub_volume),
        volume=[IN_CHANNELS, *settings.volume],
        probability=settings.probability,
        draws=settings.draws,
        **(peer_versions() if settings.peers else {}),
    )
    return Report("augment", machine, shown_settings, tuple(rows), COLUMNS, {}, (NOTE,))


def _pipelines(settings: Settings, device: torch.device) -> list[Pipeline]:
    subject, gpu = _noise_subject(settings.volume), device.type == "cuda"
    calls, on_cpu = (GPU_CALLS, "on the CPU; ") if gpu else (1, "")
    pipelines = [Pipeline(Row("ours", "fp32"), lambda: _segmentarium(subject, settings, device), calls, ours=True)]
    if not settings.peers:
        return pipelines
    monai = Row("MONAI", "fp32", note=f"{on_cpu}Rand3DElasticd and eight more")
    torchio = Row("TorchIO", "fp32", note=f"{on_cpu}without brightness and contrast")
    pipelines.append(Pipeline(monai, lambda: _monai(subject, settings, torch.device("cpu"))))
    if gpu:
        pipelines.append(Pipeline(Row("MONAI on the GPU", "fp32"), lambda: _monai(subject, settings, device), calls))
    pipelines.append(Pipeline(torchio, lambda: _torchio(subject, settings)))
    return pipelines


def _measure(pipelines: list[Pipeline], draws: int, device: torch.device, progress: TextProgressCallback) -> list[Row]:
    """Build and warm up every pipeline, then time those that run in turns; a row reports a library that is missing or
    fails."""
    rows = [pipeline.row for pipeline in pipelines]
    workloads: dict[int, Workload] = {}  # by index of the row
    for number, pipeline in enumerate(pipelines):
        progress(number, len(pipelines), f"preparing {pipeline.row.name}")
        try:
            workload = with_memory_retention(pipeline.build(), pipeline.ours)
            for _ in range(pipeline.calls):
                workload()
        except PeerMissingError as error:
            rows[number] = replace(pipeline.row, note=str(error))
            continue
        except Exception as error:
            if pipeline.ours:
                raise
            rows[number] = replace(pipeline.row, note=f"failed: {first_line(error)}")
            continue
        workloads[number] = workload
    calls = [pipelines[number].calls for number in workloads]
    on_turn = RemainingTime(draws * len(workloads), progress)
    seconds = time_interleaved(list(workloads.values()), calls, draws, device, on_turn)
    for number, times in zip(workloads, seconds, strict=True):
        rows[number] = with_times(rows[number], times)
    return with_ratios(rows, rows[0])


def _noise_subject(volume: Size3) -> TrainingSubject:
    """A subject of noise without zeros, so that no voxel counts as background air."""
    generator = np.random.default_rng(0)
    image = generator.standard_normal((IN_CHANNELS, *volume), dtype=np.float32)
    return TrainingSubject("noise", image, generator.integers(0, CLASSES, volume, dtype=np.uint8), (1.0, 1.0, 1.0))


def _segmentarium(subject: TrainingSubject, settings: Settings, device: torch.device) -> Workload:
    p = settings.probability
    config = AugmentConfig(flip=p, affine=p, elastic=p, intensity=p, noise=NOISE_STD)
    augment, subjects = Augmenter(config, settings.sub_volume), ResidentSubjects([subject], device)
    generator = torch.Generator().manual_seed(0)

    def draw() -> object:
        free = [v - n + 1 for v, n in zip(settings.volume, settings.sub_volume, strict=True)]
        i, j, k = (int(torch.randint(n, (1,), generator=generator)) for n in free)
        return augment(subjects, [PatchLocation(0, (i, j, k))], generator)

    return draw


def _region_size(settings: Settings) -> list[int]:
    """Region that MONAI and TorchIO crop: a sub-volume with a margin for rotation and scaling, within the volume."""
    return [min(v, round(n * REGION_SCALE)) for n, v in zip(settings.sub_volume, settings.volume, strict=True)]


def _monai(subject: TrainingSubject, settings: Settings, device: torch.device) -> Workload:
    t = import_peer("monai.transforms")
    p, config = settings.probability, AugmentConfig()
    image, both = ["image"], ["image", "label"]
    angle = float(np.deg2rad(config.rotation_deg))
    pipeline = t.Compose(
        [
            t.RandSpatialCropd(both, roi_size=_region_size(settings), random_size=False),
            t.Rand3DElasticd(
                both,
                sigma_range=(5, 7),
                magnitude_range=(200, 300),
                spatial_size=settings.sub_volume,
                prob=p,
                rotate_range=[angle] * 3,
                scale_range=[config.scaling] * 3,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
                device=device,
            ),
            t.RandFlipd(both, spatial_axis=0, prob=p),
            t.RandScaleIntensityd(image, factors=(-0.25, 0.3), prob=p),
            t.RandShiftIntensityd(image, offsets=0.2, prob=p),
            t.RandAdjustContrastd(image, gamma=(0.7, 1.5), prob=p),
            t.RandBiasFieldd(image, coeff_range=(0.0, 0.1), prob=p),
            t.RandGaussianSmoothd(image, sigma_x=(0.4, 1.0), sigma_y=(0.4, 1.0), sigma_z=(0.4, 1.0), prob=p),
            t.RandSimulateLowResolutiond(image, zoom_range=(0.5, 1.0), prob=p),
            t.RandGaussianNoised(image, std=NOISE_STD, prob=1.0),
        ]
    ).set_random_state(seed=0)
    arrays = {"image": subject.image, "label": subject.label[None]}
    data = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return lambda: pipeline(dict(data))


def _torchio(subject: TrainingSubject, settings: Settings) -> Workload:
    tio = import_peer("torchio")
    p, config, region = settings.probability, AugmentConfig(), _region_size(settings)
    control_points = tuple(max(5, n // 10) for n in region)
    pipeline = tio.Compose(
        [
            tio.RandomAffineElasticDeformation(
                affine_kwargs=dict(scales=config.scaling, degrees=config.rotation_deg),
                elastic_kwargs=dict(num_control_points=control_points, max_displacement=4.0),
                p=p,
            ),
            tio.CropOrPad(settings.sub_volume),
            tio.RandomFlip(axes=0, flip_probability=p),
            tio.RandomGamma(log_gamma=(-0.35, 0.4), p=p),
            tio.RandomBiasField(coefficients=0.3, p=p),
            tio.RandomBlur(std=(0.4, 1.0), p=p),
            tio.RandomAnisotropy(downsampling=(1, 2), p=p),
            tio.RandomNoise(std=(0, NOISE_STD), p=1.0),
        ]
    )
    generator = np.random.default_rng(0)
    image, label = torch.from_numpy(subject.image), torch.from_numpy(subject.label[None])

    def draw() -> object:
        start = [int(generator.integers(v - n + 1)) for v, n in zip(settings.volume, region, strict=True)]
        box = (slice(None), *(slice(s, s + n) for s, n in zip(start, region, strict=True)))
        return pipeline(tio.Subject(image=tio.ScalarImage(tensor=image[box]), label=tio.LabelMap(tensor=label[box])))

    return draw
