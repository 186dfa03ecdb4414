"""Turns, and memory."""

from __future__ import annotations

import sys

import pytest
import torch

from core.bench.timing import PeakMemory, in_turns

CPU = torch.device("cpu")


def test_every_block_has_every_work_and_begins_with_another() -> None:
    calls: list[str] = []
    shown: list[int] = []
    works = [lambda: calls.append("a"), lambda: calls.append("b"), lambda: calls.append("c")]
    seconds = in_turns(works, steps=[2] * len(works), blocks=3, device=CPU, show=shown.append)
    assert "".join(calls) == "aabbcc" + "bbccaa" + "ccaabb"
    assert shown == list(range(1, 10))
    assert [len(times) for times in seconds] == [3, 3, 3] and all(t >= 0 for times in seconds for t in times)


def test_peak_memory_of_work_on_the_cpu() -> None:
    memory = PeakMemory(CPU)
    torch.ones(20_000_000)  # 80 MB, gone at once
    peak = memory.read_mb()
    if not sys.platform.startswith("linux"):
        assert peak is None
    elif peak is None:
        pytest.skip("this system lets no process forget its peak")
    else:
        assert 75 < peak < 400
