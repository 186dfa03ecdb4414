"""Runs every check of a GPU once, each in a process of its own with a time limit, and measures a training step.

One check that fails, hangs or kills its process does not end the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch

from core.bench.gpu_checks import CHECKS, Check
from core.bench.machine import Machine
from core.compute.device import resolve_device
from core.compute.precision import resolve_precision
from core.errors import ConfigError
from core.processes import module_command, run_limited
from core.types import TextProgressCallback

LIMIT_S = 480.0
TABLE_S = 150.0  # of the limit, reserved for the table
END_S = 10.0  # of the limit, reserved for the end of a process that took too long, on a machine with other work
Status = Literal["passed", "failed", "timed out", "skipped", "left out"]
LEAST_S = 5.0  # a check is not begun with less time left


@dataclass(frozen=True)
class Settings:
    """What is checked.

    Attributes
    ----------
    checks : sequence of str. Names of checks; empty for all.
    table : bool. Whether a training step is measured afterwards, beside the other libraries that are installed.
    limit_s : float. Longest duration of everything, in seconds.

    Raises
    ------
    ConfigError
        If a check is unknown, or the limit is not positive.
    """

    checks: Sequence[str] = ()
    table: bool = True
    limit_s: float = LIMIT_S

    def __post_init__(self) -> None:
        for name in self.checks:
            if name not in CHECKS:
                raise ConfigError(f"checks: expected some of {', '.join(CHECKS)}; got {name!r}")
        if not self.limit_s > 0:
            raise ConfigError(f"limit: expected a positive number of seconds, got {self.limit_s:g}")


@dataclass(frozen=True)
class CheckResult:
    """Outcome of a check.

    Attributes
    ----------
    name, title : str. What was checked.
    status : str. One of :data:`Status`.
    sentence : str. What was found, or why it was not tried.
    seconds : float. Duration, the start of its process included.
    """

    name: str
    title: str
    status: Status
    sentence: str
    seconds: float = 0.0

    def text(self, width: int = 0) -> str:
        """The outcome as a line; ``width``: least number of characters of the name."""
        took = f"{self.seconds:6.1f} s" if self.seconds else " " * 8
        return f"{self.status:<9}  {took}  {self.name:<{width}}  {self.title}: {self.sentence}"


@dataclass(frozen=True)
class GpuReport:
    """All outcomes, and the table of the training step.

    Attributes
    ----------
    machine : Machine.
    gpus : tuple of str. CUDA devices with their memory.
    driver : str. Version of the driver; empty where it is not known.
    results : tuple of CheckResult.
    table : dict or None. Report of ``bench train``; ``None`` where it was not measured.
    table_text : str. The same as text, or why there is none.
    seconds : float. Duration of everything.
    """

    machine: Machine
    gpus: tuple[str, ...]
    driver: str
    results: tuple[CheckResult, ...]
    table: dict[str, Any] | None = None
    table_text: str = ""
    seconds: float = field(default=0.0)

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(result.status in ("passed", "skipped", "left out") for result in self.results)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the checks for which no time was left."""
        return tuple(result.name for result in self.results if result.status == "left out")

    def to_json(self) -> dict[str, Any]:
        """Everything but the text, as plain values."""
        values = asdict(self)
        del values["table_text"]
        return {"bench": "gpu-check", "passed": self.passed, "left_out": list(self.left_out), **values}

    def text(self) -> str:
        """A line per check, and the table."""
        lines = [f"bench gpu-check  {self.machine.text()}"]
        lines += [f"GPU {number}: {gpu}" for number, gpu in enumerate(self.gpus)] or ["no CUDA device"]
        if self.driver:
            lines.append(f"driver {self.driver}")
        lines.append("")
        width = max(len(result.name) for result in self.results)
        lines += [result.text(width) for result in self.results]
        counts = {status: sum(r.status == status for r in self.results) for status in get_args(Status)}
        lines += ["", ", ".join(f"{number} {status}" for status, number in counts.items() if number)]
        if self.left_out:
            again = ",".join(self.left_out)
            lines.append(f"left out for lack of time: {', '.join(self.left_out)}; run them alone: --checks {again}")
        if self.table_text:
            lines += ["", self.table_text]
        return "\n".join([*lines, f"took {self.seconds:.0f} s"])


def check_gpu(
    settings: Settings,
    device_name: str,
    progress: TextProgressCallback,
    on_result: Callable[[CheckResult], None] = lambda result: None,
) -> GpuReport:
    """Run the checks. This process leaves the GPU to those of the checks until all have ended.

    Parameters
    ----------
    settings : Settings.
    device_name : str. "auto", or a kind of device.
    progress : callable. Called with (done, total, text).
    on_result : callable. Called with each outcome, which is known then even if the machine is taken away.

    Raises
    ------
    DeviceError
        If the device is missing.
    """
    started = time.monotonic()
    device = resolve_device(device_name)
    names = tuple(settings.checks) or tuple(CHECKS)
    checks_end = started + settings.limit_s - (min(TABLE_S, settings.limit_s / 3) if settings.table else 0.0)
    results = []
    for number, name in enumerate(names):
        progress(number, len(names) + settings.table, CHECKS[name].title)
        results.append(_run(name, device, checks_end - time.monotonic()))
        on_result(results[-1])
    table, text = None, ""
    if settings.table:
        progress(len(names), len(names) + 1, "training step beside other libraries")
        table, text = _measure_step(device, settings.limit_s - END_S - (time.monotonic() - started))
    machine, gpus = _describe(device)
    return GpuReport(
        machine=machine,
        gpus=gpus,
        driver=_driver_version() if device.type == "cuda" else "",
        results=tuple(results),
        table=table,
        table_text=text,
        seconds=round(time.monotonic() - started, 1),
    )


def _run(name: str, device: torch.device, left_s: float) -> CheckResult:
    check = CHECKS[name]
    if reason := _missing(check, device):
        return CheckResult(name, check.title, "skipped", reason)
    if left_s < LEAST_S:
        return CheckResult(name, check.title, "left out", "the time limit of all checks was reached before")
    limit_s, started = min(check.limit_s, left_s), time.monotonic()
    done = run_limited(module_command("core.bench.gpu_checks", name, device.type), limit_s)
    seconds = round(time.monotonic() - started, 1)
    if done is None and limit_s < check.limit_s:
        sentence = f"it was ended after {limit_s:.0f} of its {check.limit_s:.0f} s: the time limit of all was reached"
        return CheckResult(name, check.title, "left out", sentence, seconds)
    if done is None:
        return CheckResult(
            name, check.title, "timed out", f"expected an end within {limit_s:.0f} s, it was killed", seconds
        )
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
        return CheckResult(name, check.title, found["status"], found["sentence"], seconds)
    except (IndexError, ValueError, KeyError, TypeError):
        last = _last_line(done.stderr)
        return CheckResult(name, check.title, "failed", f"its process ended with {done.returncode}: {last}", seconds)


def _missing(check: Check, device: torch.device) -> str:
    """Why a check cannot be run here; empty if it can."""
    if not check.gpus:
        return ""
    if device.type != "cuda":
        return f"needs {'a CUDA device' if check.gpus == 1 else f'{check.gpus} CUDA devices'}, this is a {device.type}"
    found = torch.cuda.device_count()
    return f"needs {check.gpus} CUDA devices, found {found}" if found < check.gpus else ""


def _measure_step(device: torch.device, left_s: float) -> tuple[dict[str, Any] | None, str]:
    """The table of ``bench train``, in a process of its own."""
    if left_s < 20:
        return None, "no table of the training step: the time limit was reached before"
    done = run_limited(module_command("core.bench.gpu_check", device.type), left_s)
    if done is None:
        return None, "no table of the training step: it took too long"
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
        return found["report"], str(found["text"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None, f"no table of the training step: {_last_line(done.stderr)}"


def _describe(device: torch.device) -> tuple[Machine, tuple[str, ...]]:
    """This machine and its GPUs. What a check did to the device or its driver must not lose the other outcomes."""
    try:
        gpus = tuple(map(_describe_gpu, range(torch.cuda.device_count()))) if device.type == "cuda" else ()
        return Machine.current(device, resolve_precision("auto", device)), gpus
    except Exception as error:  # noqa: BLE001 - also what a driver raises
        reason = f"it cannot be described now: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Machine.current(torch.device("cpu"), "fp32"), (reason,) if device.type == "cuda" else ()


def _last_line(errors: str) -> str:
    return (errors.strip().splitlines()[-1:] or ["no output"])[0][:300]


def _describe_gpu(number: int) -> str:
    found = torch.cuda.get_device_properties(number)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB, compute capability {found.major}.{found.minor}"


def _driver_version() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


def _table(device_name: str) -> dict[str, Any]:
    """Report and text of a short ``bench train``."""
    from core.bench.peers import peer_versions
    from core.bench.train import Settings as TrainSettings
    from core.bench.train import bench_train

    cuda = device_name == "cuda"
    settings = TrainSettings(
        peers=bool(peer_versions()), batches=(2,) if cuda else (1,), blocks=3 if cuda else 1, loop=cuda, loop_s=5.0,
        roofline=cuda, sub_volume=None if cuda else (32, 32, 32), article=False,
    )  # fmt: skip
    report = bench_train(settings, device_name, lambda done, total, text: None)
    return {"report": report.to_json(), "text": report.text()}


if __name__ == "__main__":
    from core import strict_json

    sys.stdout.write(strict_json.dumps(_table(sys.argv[1])) + "\n")
