"""The device that a run will probably use is known without torch."""

from __future__ import annotations

import pytest

from core.compute.expected_device import expected_device, expected_precision


@pytest.mark.parametrize(
    ("driver", "visible", "expected"),
    [
        ("/usr/bin/nvidia-smi", None, "cuda"),
        ("/usr/bin/nvidia-smi", "1,3", "cuda"),
        ("/usr/bin/nvidia-smi", "", "cpu"),
        ("/usr/bin/nvidia-smi", "-1", "cpu"),
        (None, None, "cpu"),
        (None, "0", "cpu"),
    ],
)
def test_automatic_device_is_cuda_where_a_driver_shows_gpus(
    monkeypatch: pytest.MonkeyPatch, driver: str | None, visible: str | None, expected: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: driver)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert expected_device("auto") == expected
    assert expected_device("mps") == "mps", "a device that is configured is taken"


@pytest.mark.parametrize(("bf16", "on_cpu"), [(True, "auto"), (False, "fp32")])
def test_automatic_precision_is_fp32_where_a_device_computes_in_nothing_else(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, on_cpu: str
) -> None:
    monkeypatch.setattr("core.compute.expected_device.has_bf16_instructions", lambda: bf16)
    assert [expected_precision("auto", device) for device in ("cpu", "mps", "cuda")] == [on_cpu, "fp32", "auto"]
    assert expected_precision("bf16", "cpu") == "bf16"
