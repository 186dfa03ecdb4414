"""Precision of training and inference: what "auto" resolves to, and the scope of autocast."""

from __future__ import annotations

import pytest
import torch

from core.compute.precision import autocast, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_given_precision_is_kept(precision: str) -> None:
    assert resolve_precision(precision, CPU) == resolve_precision(precision, CUDA) == precision


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_only_where_the_device_supports_it(
    supported: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.compute.precision._has_bf16_instructions", lambda: supported)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert resolve_precision("auto", CPU) == resolve_precision("auto", CUDA) == expected


def test_autocast_of_fp32_changes_nothing() -> None:
    with autocast(CPU, "fp32"):
        assert not torch.is_autocast_enabled("cpu")
    with autocast(CPU, "bf16"):
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
