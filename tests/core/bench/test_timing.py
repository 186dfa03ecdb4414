"""Interleaved timing and peak memory."""

from __future__ import annotations

import sys

import pytest
import torch

from core.bench.timing import PeakMemory, RemainingTime, time_interleaved

CPU = torch.device("cpu")


def test_every_block_times_every_workload_and_begins_with_another() -> None:
    calls: list[str] = []
    turns: list[int] = []
    workloads = [lambda: calls.append("a"), lambda: calls.append("b"), lambda: calls.append("c")]
    seconds = time_interleaved(workloads, [2] * len(workloads), blocks=3, device=CPU, on_turn=turns.append)
    assert "".join(calls) == "aabbcc" + "bbccaa" + "ccaabb"
    assert turns == list(range(1, 10))
    assert [len(times) for times in seconds] == [3, 3, 3] and all(t >= 0 for times in seconds for t in times)


def test_remaining_time_is_extrapolated_from_the_turns_done(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    now = iter([0.0, 10.0, 40.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    on_turn = RemainingTime(4, lambda done, total, text: texts.append(f"{done}/{total} {text}"), "batch 1: ")
    on_turn(1)
    on_turn(4)
    assert texts == ["1/4 batch 1: about 30 s left", "4/4 batch 1: about 0 s left"]


def test_peak_memory_on_the_cpu() -> None:
    memory = PeakMemory(CPU)
    torch.ones(20_000_000)  # 80 MB, freed at once
    peak = memory.read_mb()
    if not sys.platform.startswith("linux"):
        assert peak is None
    elif peak is None:
        pytest.skip("this system cannot reset the peak")
    else:
        assert 75 < peak < 400
