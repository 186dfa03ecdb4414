"""Where to compute: a device that is not there, threads, and what an error of memory means."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from core.compute.device import (
    check_memory,
    cudnn_benchmark,
    free_bytes,
    out_of_memory_error,
    resolve_device,
    set_num_threads,
    total_bytes,
)
from core.errors import DeviceError
from core.paths import project_root

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def threads_put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("has_cuda", [True, False])
def test_auto_takes_cuda_where_there_is_one(has_cuda: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert resolve_device("auto").type == ("cuda" if has_cuda else "cpu")
    assert resolve_device("cpu") == CPU


def test_cuda_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("cuda") == CUDA


@pytest.mark.parametrize(("version", "why"), [(None, "built without CUDA"), ("13.0", "that sees no CUDA device")])
def test_cuda_that_is_not_there(version: str | None, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(DeviceError) as caught:
        resolve_device("cuda")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(
        f"device: expected a CUDA device, found torch {torch.__version__} {why}; use --device cpu"
    )


@pytest.mark.usefixtures("threads_put_back")
def test_threads() -> None:
    assert set_num_threads(1) == torch.get_num_threads() == 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert set_num_threads(0) == torch.get_num_threads() == allowed


def test_more_memory_than_there_is_in_torch_and_in_numpy() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    explained = out_of_memory_error(caught.value, CPU)
    told = str(explained)
    assert told.startswith("not enough memory: the work does not fit into this machine's memory (")
    assert re.search(r"\(\d+\.\d GB, \d+\.\d GB of it free now\); choose a smaller sub_volume or batch_size", told)
    suggestion = "batch_size 1 would take about 3.1 GB"
    told = str(out_of_memory_error(caught.value, CPU, 12_340_000_000, suggestion))
    assert told.endswith("; a training step was estimated to take about 12.3 GB; batch_size 1 would take about 3.1 GB")
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
def test_out_of_memory_as_it_is_told(error: Exception) -> None:
    assert "does not fit into the CUDA device's memory" in str(out_of_memory_error(error, CUDA))
    assert "does not fit into this machine's memory" in str(out_of_memory_error(error, CPU))


@pytest.mark.parametrize(
    "error",
    [RuntimeError("expected 2 channels"), ValueError("out of memory"), KeyError("out of memory"), OSError(12, "no")],
)
def test_another_error_is_not_explained_away(error: Exception) -> None:
    assert out_of_memory_error(error, CPU) is None


# --- how much there is ------------------------------------------------------------------------------------------------


def test_memory_of_this_machine() -> None:
    total, free = total_bytes(CPU), free_bytes(CPU)
    assert 0 < free <= total
    check_memory(0, CPU)
    check_memory(free // 2, CPU)


def test_what_recorded_graphs_keep_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch counts it as reserved and not allocated, as it does what anybody may use again."""
    segments = [
        {"device": 0, "segment_pool_id": (0, 0), "total_size": 500, "allocated_size": 300},
        {"device": 0, "segment_pool_id": (0, 1), "total_size": 400, "allocated_size": 100},
        {"device": 1, "segment_pool_id": (0, 1), "total_size": 900, "allocated_size": 0},
    ]
    for name, value in {
        "current_device": lambda: 0, "memory_snapshot": lambda: segments, "memory_reserved": lambda device: 900,
        "memory_allocated": lambda device: 400, "mem_get_info": lambda device: (1000, 2000),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    assert free_bytes(CUDA) == free_bytes(torch.device("cuda", 0)) == 1000 + 200


@pytest.mark.parametrize(("device", "wanted", "exact", "tried"), [
    (CUDA, True, False, True), (CUDA, True, True, False), (CUDA, False, False, False), (CPU, True, False, False),
])  # fmt: skip
def test_kernels_are_tried_on_cuda_unless_the_result_must_be_the_same_again(
    device: torch.device, wanted: bool, exact: bool, tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: exact)
    with cudnn_benchmark(device, wanted):
        assert torch.backends.cudnn.benchmark == tried
    assert not torch.backends.cudnn.benchmark


def test_work_that_cannot_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.compute.device.total_bytes", lambda device: 16_000_000_000)
    monkeypatch.setattr("core.compute.device.free_bytes", lambda device: 8_000_000_000)
    check_memory(9_000_000_000, CPU)  # an estimate may be too high
    with pytest.raises(DeviceError) as caught:
        check_memory(20_000_000_000, CPU, "batch_size 1 would take about 3.1 GB")
    assert str(caught.value) == (
        "not enough memory: a training step would take about 20.0 GB, and this machine's memory is 16.0 GB, 8.0 GB of "
        "it free; batch_size 1 would take about 3.1 GB"
    )
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(DeviceError, match=r"about 12\.0 GB.*choose a smaller sub_volume or batch_size"):
        check_memory(12_000_000_000, CPU)
    monkeypatch.setattr("sys.platform", "darwin")
    check_memory(12_000_000_000, CPU)
    check_memory(12_000_000_000, CUDA)  # whatever takes it now may be gone soon, and CUDA says so if not


# A training step and a prediction under a real limit of address space; what they say about it.
LIMITED = """
import resource, sys
from pathlib import Path
import torch
from core.config import ModelConfig, OptimConfig
from core.compute.device import check_memory, out_of_memory_error, free_bytes, total_bytes
from core.inference.sliding_window import InferenceOptions, predict_logits
from core.training.losses import dice_loss
from core.models import build_model
from core.training.step import TrainingStep

torch.set_num_threads(1)
cpu = torch.device("cpu")
network = build_model(ModelConfig(channels=(8, 16)), 1, 2)
step = TrainingStep(network, dice_loss, OptimConfig(), "fp32")
options = InferenceOptions("whole", (16, 16, 16))

def train(size):
    step([(torch.zeros(2, 1, size, size, size), torch.zeros(2, size, size, size, dtype=torch.uint8))], 0.1, 0)

def predict(size):
    predict_logits(network, torch.zeros(1, size, size, size), options, memory_bytes=2**50)

train(16), predict(16)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + 400_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert total_bytes(cpu) == limit and 0 < free_bytes(cpu) <= 400_000_000
for work in (lambda: train(128), lambda: predict(224), lambda: check_memory(10**10, cpu)):
    try:
        work()
    except Exception as error:
        print(out_of_memory_error(error, cpu, 10**9) or f"{type(error).__name__}: {error}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit that only Linux keeps")
def test_a_real_limit_of_memory_gives_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=project_root(), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    trained, predicted, refused = done.stdout.splitlines()
    for told in (trained, predicted):
        assert re.fullmatch(
            r"not enough memory: the work does not fit into this machine's memory "
            r"\(\d\.\d GB, [\d.]+ [MG]B of it free now\); "
            r"a training step was estimated to take about 1\.0 GB; choose a smaller sub_volume .*",
            told,
        )
    assert refused.startswith("DeviceError: not enough memory: a training step would take about 10.0 GB, and this")
