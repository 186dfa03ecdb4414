"""Devices, number of threads, memory limits, out-of-memory errors."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.choices import DEVICE_WORDS, DEVICES
from core.cli.arguments import add_device
from core.compute.device import (
    available_devices,
    check_memory,
    cudnn_benchmark,
    device_name,
    free_bytes,
    out_of_memory_error,
    resolve_device,
    set_num_threads,
    total_bytes,
)
from core.config import TrainConfig
from core.errors import DeviceError
from core.paths import project_root
from core.training.plan import DEVICE_KINDS

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("has_cuda", [True, False])
def test_auto_prefers_cuda(has_cuda: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert resolve_device("auto").type == ("cuda" if has_cuda else "cpu")
    assert resolve_device("cpu") == CPU


def test_available_cuda_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("cuda") == CUDA


@pytest.mark.parametrize(("version", "reason"), [(None, "built without CUDA"), ("13.0", "that sees no CUDA device")])
def test_missing_cuda_is_rejected_with_the_reason(
    version: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(DeviceError) as caught:
        resolve_device("cuda")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(
        f"device: expected a CUDA device, found torch {torch.__version__} {reason}; use --device cpu"
    )


@pytest.mark.parametrize(("kind", "gpu"), [("mps", "an Apple GPU"), ("xpu", "an Intel GPU")])
def test_missing_gpu_of_another_maker_is_rejected_with_the_way_out(kind: str, gpu: str) -> None:
    if kind in available_devices():
        pytest.skip(f"this machine has {gpu}")
    with pytest.raises(DeviceError, match=f"device: expected {gpu}, found torch .*; use --device cpu"):
        resolve_device(kind)


def test_every_kind_of_device_is_in_one_list() -> None:
    assert set(DEVICES) == set(DEVICE_KINDS) == set(DEVICE_WORDS) - {"auto"}
    parser = argparse.ArgumentParser()
    add_device(parser)
    for name in ("auto", *DEVICES):
        assert parser.parse_args(["--device", name]).device == name
        assert TrainConfig().with_values({"device": name}).run.device == name
    assert available_devices()[-1] == "cpu" and set(available_devices()) <= set(DEVICES)
    assert device_name(CPU) == "CPU"


@pytest.mark.usefixtures("restore_threads")
def test_number_of_threads_is_set_and_0_uses_all_allowed_cores() -> None:
    assert set_num_threads(1) == torch.get_num_threads() == 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert set_num_threads(0) == torch.get_num_threads() == allowed


def test_out_of_memory_of_torch_and_numpy_is_translated() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    message = str(out_of_memory_error(caught.value, CPU))
    assert message.startswith("not enough memory: the work does not fit into this machine's memory (")
    assert re.search(r"\(\d+\.\d GB, \d+\.\d GB of it free now\); choose a smaller sub_volume or batch_size", message)
    suggestion = "batch_size 1 would take about 3.1 GB"
    message = str(out_of_memory_error(caught.value, CPU, 12_340_000_000, lambda: suggestion))
    assert message.endswith(
        "; a training step was estimated to take about 12.3 GB; batch_size 1 would take about 3.1 GB"
    )
    with pytest.raises(MemoryError) as other:
        np.empty(2**60, np.uint8)
    assert isinstance(out_of_memory_error(other.value, CPU), DeviceError)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."),  # on Windows
    ],
    ids=str,
)
def test_out_of_memory_messages_are_recognised(error: Exception) -> None:
    assert "does not fit into the CUDA device's memory" in str(out_of_memory_error(error, CUDA))
    assert "does not fit into this machine's memory" in str(out_of_memory_error(error, CPU))


@pytest.mark.parametrize(
    "error",
    [RuntimeError("expected 2 channels"), ValueError("out of memory"), KeyError("out of memory"), OSError(12, "no")],
)
def test_other_errors_are_not_translated(error: Exception) -> None:
    assert out_of_memory_error(error, CPU) is None


def test_free_memory_of_this_machine_is_at_most_its_total() -> None:
    total, free = total_bytes(CPU), free_bytes(CPU)
    assert 0 < free <= total
    check_memory(0, CPU)
    check_memory(free // 2, CPU)


def test_private_pools_of_cuda_graphs_are_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch counts them as reserved and not allocated, like memory that any allocation can reuse."""
    segments = [
        {"device": 0, "segment_pool_id": (0, 0), "total_size": 500, "allocated_size": 300},
        {"device": 0, "segment_pool_id": (0, 1), "total_size": 400, "allocated_size": 100},
        {"device": 1, "segment_pool_id": (0, 1), "total_size": 900, "allocated_size": 0},
    ]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: segments)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 900)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 400)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert free_bytes(CUDA) == free_bytes(torch.device("cuda", 0)) == 1000 + 200


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"is_integrated_gpu": True}, 5000),  # its memory is the machine's
        ({"is_integrated_gpu": False}, 9000 - 400),
        ({}, 5000),  # torch before 2.13
    ],
)
def test_intel_gpus_that_do_not_tell_their_free_memory(
    properties: dict[str, bool], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch says on integrated GPUs; also while an out-of-memory error is explained."""
    xpu = torch.device("xpu")

    def no_answer(device: torch.device) -> tuple[int, int]:
        raise RuntimeError("The device (Intel(R) Graphics) doesn't support querying the available free memory.")

    monkeypatch.setattr(torch.xpu, "mem_get_info", no_answer)
    monkeypatch.setattr(torch.xpu, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.xpu, "memory_allocated", lambda device: 400)
    monkeypatch.setattr(
        torch.xpu, "get_device_properties", lambda device: SimpleNamespace(total_memory=9000, **properties)
    )
    monkeypatch.setattr("core.compute.device.free_memory", lambda: 5000)
    monkeypatch.setattr("core.compute.device.available_devices", lambda: ("xpu", "cpu"))
    assert free_bytes(xpu) == expected
    check_memory(8_000, xpu)
    with pytest.raises(DeviceError, match="not enough memory: a training step would take about"):
        check_memory(10_000, xpu)
    assert "does not fit into" in str(out_of_memory_error(torch.OutOfMemoryError("out of memory"), xpu))
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda device: (1000, 9000))
    assert free_bytes(xpu) == 1000 + 300


@pytest.mark.parametrize(
    ("device", "enabled", "deterministic", "expected"),
    [(CUDA, True, False, True), (CUDA, True, True, False), (CUDA, False, False, False), (CPU, True, False, False)],
)
def test_cudnn_benchmark_is_on_for_cuda_without_deterministic_algorithms(
    device: torch.device, enabled: bool, deterministic: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    with cudnn_benchmark(device, enabled):
        assert torch.backends.cudnn.benchmark == expected
    assert not torch.backends.cudnn.benchmark


def test_step_that_cannot_fit_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.compute.device.total_bytes", lambda device: 16_000_000_000)
    monkeypatch.setattr("core.compute.device.free_bytes", lambda device: 8_000_000_000)
    check_memory(9_000_000_000, CPU)  # an estimate may be too high
    with pytest.raises(DeviceError) as caught:
        check_memory(20_000_000_000, CPU, lambda: "batch_size 1 would take about 3.1 GB")
    assert str(caught.value) == (
        "not enough memory: a training step would take about 20.0 GB, and this machine's memory is 16.0 GB, 8.0 GB of "
        "it free; batch_size 1 would take about 3.1 GB"
    )
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(DeviceError, match=r"about 12\.0 GB.*choose a smaller sub_volume or batch_size"):
        check_memory(12_000_000_000, CPU)
    monkeypatch.setattr("sys.platform", "darwin")
    check_memory(12_000_000_000, CPU)
    check_memory(12_000_000_000, CUDA)  # other programs may release memory; if not, CUDA raises an error


# Prints the errors of a training step and a prediction under a limit of address space.
LIMITED = """
import resource, sys
from pathlib import Path
import torch
from core.config import ModelConfig, OptimConfig
from core.compute.device import check_memory, out_of_memory_error, free_bytes, total_bytes
from core.inference.sliding_window import InferenceOptions, predict_logits
from core.losses.dice import dice_loss
from core.models.build import build_model
from core.training.step import TrainingStep

torch.set_num_threads(1)
cpu = torch.device("cpu")
network = build_model(ModelConfig(channels=(8, 16)), 1, 2)
step = TrainingStep(network, dice_loss, OptimConfig(), "fp32")

def train(size):
    step([(torch.zeros(2, 1, size, size, size), torch.zeros(2, size, size, size, dtype=torch.uint8))], 0.1, 0)

def predict(size):
    options = InferenceOptions("whole", (size, size, size))  # the smallest pass that there is
    predict_logits(network, torch.zeros(1, size, size, size), options, memory_bytes=2**50)

train(16), predict(16)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + 400_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert total_bytes(cpu) == limit and 0 < free_bytes(cpu) <= 440_000_000  # a little may have been freed meanwhile
for work in (lambda: train(128), lambda: predict(224), lambda: check_memory(10**10, cpu)):
    try:
        work()
    except Exception as error:
        print(out_of_memory_error(error, cpu, 10**9) or f"{type(error).__name__}: {error}")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is enforced on Linux only")
def test_memory_limit_of_the_process_gives_a_translated_error() -> None:
    command = [sys.executable, "-c", LIMITED]
    done = subprocess.run(command, cwd=project_root(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    trained, predicted, refused = done.stdout.splitlines()
    for message in (trained, predicted):
        assert re.fullmatch(
            r"not enough memory: the work does not fit into this machine's memory "
            r"\(\d\.\d GB, [\d.]+ [MG]B of it free now\); "
            r"a training step was estimated to take about 1\.0 GB; choose a smaller sub_volume .*",
            message,
        )
    assert refused.startswith("DeviceError: not enough memory: a training step would take about 10.0 GB, and this")
