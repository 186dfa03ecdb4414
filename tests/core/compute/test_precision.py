"""Precision of training and inference: what "auto" resolves to, and the scope of autocast."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from core.compute.precision import autocast, resolve_precision, wide_dtype
from core.errors import DeviceError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_given_precision_is_kept(precision: str) -> None:
    assert resolve_precision(precision, CPU) == resolve_precision(precision, CUDA) == precision


@pytest.mark.parametrize(
    ("bf16", "gpu", "capability", "on_cpu", "on_cuda"),
    [
        (True, "NVIDIA A100-SXM4-40GB", (8, 0), "bf16", "bf16"),
        (False, "Tesla T4", (7, 5), "fp32", "fp16"),
        (False, "Tesla V100-SXM2-16GB", (7, 0), "fp32", "fp16"),
        (False, "NVIDIA GeForce GTX 1660 Ti", (7, 5), "fp32", "fp32"),  # no tensor cores; fp16 convolutions give NaN
        (False, "NVIDIA GeForce GTX 1080", (6, 1), "fp32", "fp32"),  # computes fp16 more slowly than fp32
    ],
)
def test_auto_is_the_precision_that_the_device_computes_in(
    bf16: bool, gpu: str, capability: tuple[int, int], on_cpu: str, on_cuda: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.compute.precision.has_bf16_instructions", lambda: bf16)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or bf16)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert (resolve_precision("auto", CPU), resolve_precision("auto", CUDA)) == (on_cpu, on_cuda)


def test_an_apple_gpu_computes_in_fp32_alone() -> None:
    mps = torch.device("mps")
    assert resolve_precision("auto", mps) == resolve_precision("fp32", mps) == "fp32"
    with pytest.raises(DeviceError, match="precision: expected auto or fp32 on mps, got bf16"):
        resolve_precision("bf16", mps)
    assert (wide_dtype(mps), wide_dtype(CPU), wide_dtype(CUDA)) == (torch.float32, torch.float64, torch.float64)


def test_an_intel_gpu_computes_in_bf16_where_it_does_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, expected in ((True, "bf16"), (False, "fp32")):
        supported = partial(lambda native, including_emulation=True: including_emulation or native, native)
        monkeypatch.setattr(torch.xpu, "is_bf16_supported", supported)
        assert resolve_precision("auto", torch.device("xpu")) == expected


def test_autocast_of_fp32_changes_nothing() -> None:
    with autocast(CPU, "fp32"):
        assert not torch.is_autocast_enabled("cpu")
    with autocast(CPU, "bf16"):
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
