"""Where to compute: a device that is not there, threads, and what an error of memory means."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from core.device import explain_memory, resolve_device, set_threads
from core.errors import DeviceError

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
    assert set_threads(1) == torch.get_num_threads() == 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert set_threads(0) == torch.get_num_threads() == allowed


def test_more_memory_than_there_is_in_torch_and_in_numpy() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    explained = explain_memory(caught.value, CPU)
    assert "not enough memory: the work does not fit into this machine's memory" in str(explained)
    assert "choose a smaller sub_volume or batch_size" in str(explained)
    with pytest.raises(MemoryError) as other:
        np.empty(2**60, np.uint8)
    assert isinstance(explain_memory(other.value, CPU), DeviceError)


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
    assert "does not fit into the CUDA device's memory" in str(explain_memory(error, CUDA))
    assert "does not fit into this machine's memory" in str(explain_memory(error, CPU))


@pytest.mark.parametrize(
    "error",
    [RuntimeError("expected 2 channels"), ValueError("out of memory"), KeyError("out of memory"), OSError(12, "no")],
)
def test_another_error_is_not_explained_away(error: Exception) -> None:
    assert explain_memory(error, CPU) is None
