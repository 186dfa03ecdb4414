"""Benchmark of the networks: parameters, operations, duration and memory of a training step of each, on this machine.

The memory that is estimated before a run is shown beside the measured one.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace

from core.bench import report
from core.bench.implementations import CLASSES, IN_CHANNELS, random_batch, segmentarium_step
from core.bench.machine import Machine, defaults_of
from core.bench.report import Report, Row, with_times
from core.bench.timing import PeakMemory, seconds_per_call, with_memory_retention
from core.compute.device import cudnn_benchmark, empty_cache, out_of_memory_error, resolve_device, set_num_threads
from core.compute.precision import resolve_precision
from core.config import OptimConfig, TrainConfig
from core.errors import ConfigError, UserError, first_line
from core.losses import LOSSES
from core.models import architecture, architectures
from core.models.build import build_model
from core.models.own_source import failure_in_code
from core.training.step_cost import trace_training_step
from core.types import Size3, TextProgressCallback

SUB_VOLUME: dict[str, Size3] = {"cpu": (32, 32, 32), "cuda": (96, 96, 96)}
OPTIM = OptimConfig(optimizer="adamw", learning_rate=1e-4)
LOSS = "dice_ce"
COLUMNS = (
    report.NAME,
    report.PARAMETERS,
    report.GFLOP,
    report.MS,
    report.LOW,
    report.HIGH,
    report.TFLOPS,
    report.MEMORY,
    report.ESTIMATED,
    report.NOTE,
)
NOTE = (
    "A training step of each network with its default widths (AdamW, Dice and cross-entropy). GFLOP and the estimated\n"
    "memory are traced without values, as before a run; ms, min, max: median, minimum and maximum of the blocks."
)


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark of networks.

    Attributes
    ----------
    networks : tuple of str. Names; empty for all whose packages are installed.
    sub_volume : tuple of int, optional. Voxels (i, j, k); ``None``: 32x32x32 on a CPU, 96x96x96 on a GPU.
    batch : int. Sub-volumes per step.
    blocks : int. Timed steps per network, after two that are not timed.
    """

    networks: tuple[str, ...] = ()
    sub_volume: Size3 | None = None
    batch: int = 1
    blocks: int = 3

    def __post_init__(self) -> None:
        for name in self.networks:
            architecture(name)
        if self.blocks < 1 or self.batch < 1:
            raise ConfigError(f"blocks, batch: expected at least 1, got {self.blocks} and {self.batch}")


def bench_models(settings: Settings, device_name: str, progress: TextProgressCallback) -> Report:
    """Measure a training step of each network.

    Parameters
    ----------
    settings : Settings.
    device_name : str. Kind of device, as torch names it, or "auto".
    progress : callable. Called with (done, total, text).

    Raises
    ------
    ConfigError
        If a network is unknown.
    DeviceError
        If the device is missing.
    """
    device = resolve_device(device_name)
    set_num_threads(0)
    precision = resolve_precision("auto", device)
    size = settings.sub_volume or SUB_VOLUME[defaults_of(device)]
    machine = Machine.current(device, precision)
    names = settings.networks or tuple(architectures())
    values = {"sub_volume": size, "batch_size": settings.batch, "precision": precision}
    base = TrainConfig(optim=OPTIM).with_values(values)
    rows = []
    for number, name in enumerate(names):
        progress(number, len(names), name)
        rows.append(_measure(base.with_values({"model": name, "loss": loss_of(name)}), settings.blocks, device_name))
    shown = dict(sub_volume=list(size), batch=settings.batch, in_channels=IN_CHANNELS, classes=CLASSES)
    return Report("models", machine, shown, tuple(rows), COLUMNS, notes=(NOTE,))


def loss_of(name: str) -> str:
    """Name of the loss a network is measured with: the common one, or the one that uses its additional outputs."""
    extras = set(architecture(name).extras)
    return next((loss for loss, entry in LOSSES.items() if entry.extras and set(entry.extras) <= extras), LOSS)


def _measure(config: TrainConfig, blocks: int, device_name: str) -> Row:
    """The row of one network; the note of a network that cannot be measured is the reason."""
    device = resolve_device(device_name)
    row = Row(config.model.model, config.run.precision, config.sampling.batch_size)
    try:
        cost = trace_training_step(config, IN_CHANNELS, CLASSES, device.type)
        row = replace(
            row,
            parameters=cost.parameters,
            gflop=cost.training_gflop * config.sampling.batch_size,
            estimated_memory_mb=cost.step_bytes / 1e6,
        )
        size = config.sampling.sub_volume
        image, label = random_batch(config.sampling.batch_size, (size[0], size[1], size[2]), device)
        gc.collect()
        empty_cache(device)
        memory = PeakMemory(device)
        network = build_model(config.model, IN_CHANNELS, CLASSES).to(device).train()
        step = segmentarium_step(network, config.optim, config.run.precision, "none", loss=config.loss)

        def run_step() -> None:
            with cudnn_benchmark(device):
                step(image, label)

        workload = with_memory_retention(run_step, True)
        seconds_per_call(workload, 2, device)
        seconds = [seconds_per_call(workload, 1, device) for _ in range(blocks)]
        return with_times(replace(row, peak_memory_mb=memory.read_mb()), seconds, batch=config.sampling.batch_size)
    except UserError as error:
        return replace(row, note=str(error).partition(":")[2].strip() or str(error))
    except (Exception, SystemExit) as error:
        if not isinstance(error, (MemoryError, RuntimeError)) and not architecture(row.name).own:
            raise
        out_of_memory = out_of_memory_error(error, device)
        return replace(row, note="not enough memory" if out_of_memory else f"failed: {_reason(row.name, error)}")


def _reason(name: str, error: BaseException) -> str:
    """What ended the measurement of a network: of a user's own file, line and error."""
    in_code = failure_in_code(name, error).removeprefix("model: ")
    kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
    return in_code or kind + first_line(error)
